"""Masks: which units are kept, as a pure function of seed, site, step, sample and unit.

`Rate` says how often, `Key` says which, and `keep` computes it. Philox4x32-10 is the only source of
randomness. `ops` writes masks into activations, by the kernels; `key_words` and `rate_words` are what it takes.
"""

from dropkit.masks.keys import Key as Key
from dropkit.masks.keys import site_of as site_of
from dropkit.masks.ops import fresh_key as fresh_key
from dropkit.masks.philox import philox4x32 as philox4x32
from dropkit.masks.rate import Rate as Rate
from dropkit.masks.reference import keep as keep
from dropkit.masks.words import key_words as key_words
from dropkit.masks.words import rate_with_words as rate_with_words
from dropkit.masks.words import rate_words as rate_words

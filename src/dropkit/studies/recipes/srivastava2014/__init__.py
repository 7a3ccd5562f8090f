"""Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov: Dropout. JMLR 15 (2014), pages 1929 to 1958."""

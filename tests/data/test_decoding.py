import io
import sys
import threading
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dropkit.data import decoding
from dropkit.data.decoding import BadPictureError, decode, pillow_quiet, read_header, resize
from dropkit.errors import DropkitError

JPEG_ERROR = 6  # levels by which a flat colour may be off after JPEG at quality 95


def random_pixels(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encoded(image, kind="PNG", **options):
    """Return the content of a file with the picture, which may be given as an array."""
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def reason(content, **options):
    with pytest.raises(BadPictureError) as error:
        decode(content, **options)
    assert isinstance(error.value, DropkitError)
    return error.value.reason


def test_a_path_a_files_content_and_an_open_file_are_the_same(tmp_path):
    pixels = random_pixels(5, 7, 3)
    content = encoded(pixels)
    (tmp_path / "1.png").write_bytes(content)
    for file in (content, io.BytesIO(content), tmp_path / "1.png"):
        assert np.array_equal(decode(file), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_without_loss_give_the_pixels(kind):
    gray = random_pixels(5, 7)
    options = {"lossless": True} if kind == "WEBP" else {}
    got = decode(encoded(gray, kind, **options), channels=1)
    assert np.array_equal(got[0], gray)


def test_formats_by_content_and_not_by_name(tmp_path):
    (tmp_path / "1.jpg").write_bytes(encoded(random_pixels(5, 7)))
    assert decode(tmp_path / "1.jpg").shape == (1, 5, 7)
    # a format that Pillow knows, and gives to another program
    assert "no BMP, GIF" in reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 7\n")


def test_one_bit_is_black_and_white():
    image = Image.new("1", (7, 5))
    image.putpixel((3, 2), 1)
    got = decode(encoded(image))
    assert got.shape == (1, 5, 7)
    assert got[0, 2, 3] == 255
    assert got.sum() == 255


@pytest.mark.parametrize("alpha", [0, 128, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_on_white(mode, alpha):
    colour = (31,) if mode == "LA" else (31, 67, 101)
    got = decode(encoded(Image.new(mode, (7, 5), (*colour, alpha))))
    assert got.shape == (len(colour), 5, 7)
    wanted = [round(value * alpha / 255 + 255 - alpha) for value in colour]
    assert np.abs(got[:, 2, 3].astype(int) - wanted).max() <= 1
    assert alpha == 128 or got[:, 2, 3].tolist() == wanted


def test_what_is_transparent_does_not_bleed_when_scaled():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))  # black, but nobody sees it
    ImageDraw.Draw(image).rectangle((32, 0, 64, 64), fill=(255, 255, 255, 255))
    assert decode(encoded(image), size=(7, 7)).min() == 255


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0])])
def test_palettes_become_rgb(transparency):
    palette = Image.new("P", (7, 5), 1)
    palette.putpalette([0, 0, 0, 11, 13, 17])
    options = {} if transparency is None else {"transparency": transparency}
    got = decode(encoded(palette, **options))
    assert got[:, 2, 3].tolist() == ([11, 13, 17] if transparency is None else [255, 255, 255])


def test_one_transparent_level_of_plain_pixels_is_white():
    gray = np.array([[3, 5], [5, 7]], dtype=np.uint8)
    assert decode(encoded(gray, transparency=5))[0].tolist() == [[3, 255], [255, 7]]
    rgb = np.stack([gray] * 3, axis=2)
    assert decode(encoded(rgb, transparency=(5, 5, 5)))[1].tolist() == [[3, 255], [255, 7]]
    deep = gray.astype(np.uint16) * 257
    assert decode(encoded(deep, transparency=5 * 257))[0].tolist() == [[3, 255], [255, 7]]


def test_cmyk_becomes_rgb():
    got = decode(encoded(Image.new("CMYK", (17, 13), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(got[:, 5, 7].astype(int) - [255, 0, 0]).max() <= JPEG_ERROR


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_and_not_clipped(kind):
    values = random_pixels(5, 7, dtype=np.uint16)
    values[0, :4] = [0, 128, 129, 65535]
    got = decode(encoded(values, kind))
    assert np.array_equal(got[0], np.round(values / 257).astype(np.uint8))


def test_16_bits_with_the_high_byte_first():
    values = random_pixels(5, 7, dtype=np.uint16)
    big = Image.frombytes("I;16B", (7, 5), values.astype(">u2").tobytes())
    assert np.array_equal(decode(encoded(big, "TIFF"))[0], np.round(values / 257))


def test_pngs_16_bits_in_32_are_16_bits():
    values = random_pixels(5, 7, dtype=np.uint16)
    image = Image.fromarray(values.astype(np.int32))
    image.format = "PNG"
    assert np.array_equal(np.asarray(decoding._plain(image)), np.round(values / 257))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode):
    assert f"Pillow's mode {mode}, 32 bits each" in reason(encoded(Image.new(mode, (7, 5), 1000), "TIFF"))


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied(orientation, kind):
    pixels = random_pixels(5, 7)
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(pixels, kind, exif=turned(orientation), **options)
    upright = TURNED[orientation](pixels)
    assert np.array_equal(decode(content, channels=1)[0], upright)
    assert np.array_equal(decode(content, size=upright.shape, channels=1)[0], upright)
    assert decode(content, size=(11, 13)).shape[1:] == (11, 13)


def test_exif_that_is_no_exif_turns_nothing():
    pixels = random_pixels(5, 7)
    assert np.array_equal(decode(encoded(pixels, exif=b"Exif\0\0garbage"))[0], pixels)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_an_animation_the_first_picture_is_taken(kind):
    first, second = (Image.new("RGB", (7, 5), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert decode(content)[:, 2, 3].tolist() == [255, 0, 0]


def test_a_picture_is_scaled_to_cover_and_cropped_about_its_centre():
    wide = Image.new("L", (40, 20), 0)
    ImageDraw.Draw(wide).rectangle((10, 0, 29, 19), fill=200)  # the middle square
    for image in (wide, wide.transpose(Image.Transpose.ROTATE_90)):
        for side in (5, 20, 53):  # smaller, as it is, larger
            got = decode(encoded(image), size=(side, side))
            assert got.shape == (1, side, side)
            assert got.min() > 120


def test_height_comes_first():
    assert decode(encoded(random_pixels(31, 37)), size=(5, 7)).shape == (1, 5, 7)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    pixels = random_pixels(5, 7, 3)
    assert np.array_equal(decode(encoded(pixels), size=(5, 7)), pixels.transpose(2, 0, 1))


def test_channels_are_made_to_measure():
    gray, rgb = random_pixels(5, 7), random_pixels(5, 7, 3)
    assert np.array_equal(decode(encoded(gray), channels=3), np.stack([gray] * 3))
    got = decode(encoded(rgb), channels=1)[0]
    assert np.abs(got - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(monkeypatch):
    image = Image.new("L", (800, 800), 0)
    ImageDraw.Draw(image).rectangle((400, 0, 800, 800), fill=200)
    content = encoded(image, "JPEG")
    taken = []
    take = decoding._MEMORY.take
    monkeypatch.setattr(decoding._MEMORY, "take", lambda pixels: taken.append(pixels) or take(pixels))
    got = decode(content, size=(50, 50))[0].astype(int)
    assert taken == [100 * 100]
    assert np.abs(got[:, :23]).max() <= JPEG_ERROR
    assert np.abs(got[:, 27:] - 200).max() <= JPEG_ERROR


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_file_that_is_cut_short_is_bad_wherever_it_ends(kind):
    content = encoded(random_pixels(31, 37, 3), kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        assert reason(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_damage_is_harmless_or_a_bad_picture_and_never_a_warning(kind):
    content = encoded(random_pixels(31, 37, 3), kind, exif=turned(6))
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 300), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        with suppress(BadPictureError):
            assert decode(bytes(damaged), size=(5, 7), channels=3).shape == (3, 5, 7)


def test_what_is_no_picture_says_so(tmp_path):
    assert reason(b"") == "the file is empty"
    assert "WEBP picture" in reason(b"some text")
    assert reason(tmp_path / "missing.png") == "No such file or directory"
    assert reason(tmp_path) == "it is not a file"
    (tmp_path / "empty.png").touch()
    assert reason(tmp_path / "empty.png") == "the file is empty"


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    (tmp_path / "1.png").write_bytes(encoded(random_pixels(5, 7)))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "1.png")

    monkeypatch.setattr(Image, "open", refuse)
    assert reason(tmp_path / "1.png") == "Permission denied"


def claiming(width, height):
    """Return a PNG file whose header claims a size that the file does not hold."""
    content = bytearray(encoded(random_pixels(5, 7)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_a_picture_of_absurd_size_is_bad():
    assert "its header tells of more than 178,956,970 pixels" in reason(claiming(50_000, 50_000))
    assert "it has 12000x10000 pixels, more than 89,478,485" in reason(claiming(12_000, 10_000))
    with pytest.raises(BadPictureError, match="178,956,970"):
        read_header(claiming(50_000, 50_000))


def test_headers_tell_size_and_colour():
    assert read_header(encoded(random_pixels(5, 7))) == decoding.Header((5, 7), gray=True)
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        assert read_header(encoded(random_pixels(5, 7), kind, exif=turned(6))).size == (7, 5)
        assert read_header(encoded(random_pixels(5, 7), kind, exif=turned(1))).size == (5, 7)
    assert read_header(encoded(random_pixels(5, 7, dtype=np.uint16))).gray
    assert not read_header(encoded(random_pixels(5, 7, 3))).gray


@pytest.mark.parametrize("channels", [1, 3])
def test_decoded_pictures_are_resized_as_files_are(channels):
    pixels = random_pixels(3, channels, 31, 37)
    for one, picture in zip(resize(pixels, (7, 5)), pixels, strict=True):
        content = encoded(picture[0] if channels == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
        assert np.array_equal(one, decode(content, size=(7, 5)))


def transparent_palette():
    """Return a file that Pillow warns about when it is made RGB at once."""
    palette = Image.new("P", (7, 5), 1)
    palette.putpalette([0, 0, 0, 11, 13, 17])
    return encoded(palette, transparency=bytes([255, 0]))


def test_pillows_warnings_stay_inside_in_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # every picture is suspicious
    before = list(warnings.filters)
    content, errors = transparent_palette(), []
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(content))

    def work():
        try:
            for _ in range(50):
                decode(content, size=(4, 4))
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert warnings.filters == before


def test_only_pillows_warnings_are_silenced():
    with pillow_quiet(), pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)


def test_so_many_pixels_at_once_and_a_larger_picture_alone():
    budget = decoding._Budget(10)
    order = []

    def large():
        with budget.take(1000):
            order.append(budget.free)

    with budget.take(7):
        waiting = threading.Thread(target=large)
        waiting.start()
        with budget.take(3):
            order.append("fits")
        assert order == ["fits"]
    waiting.join()
    assert order == ["fits", 0]
    assert budget.free == 10


def test_the_file_is_closed(tmp_path):
    file = tmp_path / "1.png"
    file.write_bytes(encoded(random_pixels(5, 7)))
    decode(file)
    file.write_bytes(b"no picture")
    with pytest.raises(BadPictureError):
        decode(file)
    fds = Path("/proc/self/fd")
    if fds.is_dir():
        open_files = [link.readlink() for link in fds.iterdir() if link.is_symlink()]
        assert file not in open_files

// One instruction set's kernels. The build compiles this file once for each, with its own options and DROPKIT_ISA_...;
// everything lies in an unnamed namespace, so that no function compiled for a newer processor is linked into code for
// an older one.
#include "kernels.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#if defined(DROPKIT_ISA_AVX512) || defined(DROPKIT_ISA_AVX2)
#include <immintrin.h>
#endif

namespace {

#include "floats.inc"
#include "philox.inc"

constexpr int64_t CHUNK = 16384;   // units that a thread takes at a time: their bits stay in its first cache
constexpr int64_t PIXELS = 256;    // of a tile in channels-last memory
constexpr int64_t SMALL = 32768;   // units that are not worth waking a thread for
constexpr int SLACK = 4 * STRIDE + 8;
constexpr int64_t LARGE = 32 << 20;  // bytes that the caches do not hold

inline int threads_for(int64_t units, int threads) { return units <= SMALL ? 1 : threads; }

// Writes a bit for each of n units from number `first` on; returns the place of the first one's bit, 0 to 7.
int bits_of(uint8_t* out, const Mask& mask, const RoundKeys& keys, uint64_t first, int64_t n) {
    const int lanes = mask.bits == 16 ? 8 : 4;  // units of a block
    const int place = (int)(first % (uint64_t)lanes);
    const int64_t blocks = (place + n + lanes - 1) / lanes;
    const uint32_t threshold = (uint32_t)mask.threshold;
    uint64_t block = first / (uint64_t)lanes;
    for (int64_t done = 0; done < blocks; done += STRIDE, block += STRIDE) {
        if (mask.bits == 16) {
            philox(block, mask, keys, [&](int g, Random r) { compare16(r, threshold, out + done + g * LANES); });
        } else {
            philox(block, mask, keys, [&](int g, Random r) { compare32(r, threshold, out + (done + g * LANES) / 2); });
        }
    }
    return place;
}

// Writes 16 random bits for each of n units; returns where the first one's are.
const uint16_t* halves_of(uint8_t* out, const Mask& mask, uint64_t first, int64_t n) {
    const int place = (int)(first & 7);
    const int64_t blocks = (place + n + 7) / 8;
    const RoundKeys keys(mask.seed);
    uint64_t block = first >> 3;
    for (int64_t done = 0; done < blocks; done += STRIDE, block += STRIDE) {
        philox(block, mask, keys, [&](int g, Random r) { store(r, out + 16 * (done + g * LANES)); });
    }
    return (const uint16_t*)out + place;
}

inline uint32_t word_at(const uint8_t* bits, int64_t place) {
    uint64_t w;
    memcpy(&w, bits + (place >> 3), 8);
    return (uint32_t)(w >> (place & 7));
}

inline bool bit_at(const uint8_t* bits, int64_t place) { return (bits[place >> 3] >> (place & 7)) & 1; }

// ---------------------------------------------------------------- a line of units

template <bool RELU, bool STREAM, class T>
void line(const T* x, T* y, int64_t n, const uint8_t* bits, int64_t place, double factor) {
    const Floats scale = everywhere((float)factor);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint32_t word = word_at(bits, place + i);
        for (int group = 0; group < 32 / WIDTH; ++group) {
            const int64_t at = i + group * WIDTH;
            const Floats v = load(x + at), kept = scaled_where(chosen_of(word, group), RELU ? rectified(v) : v, scale);
            STREAM ? stream(y + at, kept) : store(y + at, kept);
        }
    }
    for (; i < n; i += WIDTH) {
        const int count = (int)(n - i < WIDTH ? n - i : WIDTH);
        const Floats v = load_some(x + i, count);
        store_some(y + i, scaled_where(chosen(word_at(bits, place + i)), RELU ? rectified(v) : v, scale), count);
    }
}

template <bool RELU, bool STREAM>
void line(const double* x, double* y, int64_t n, const uint8_t* bits, int64_t place, double scale) {
    for (int64_t i = 0; i < n; ++i) {
        double v = RELU && x[i] < 0.0 ? 0.0 : x[i];
        y[i] = bit_at(bits, place + i) ? v * scale : 0.0;
    }
}

// Whether to write past the caches: what they cannot hold, and was not read into them anyway. Whole vectors have to lie
// at their own multiples.
template <class T>
inline bool past_caches(const T* x, const T* y, int64_t n) {
    return x != y && n * (int64_t)sizeof(T) >= LARGE && (uintptr_t)y % 64 == 0;
}

template <bool RELU, bool STREAM, class T>
void units_contiguous(const T* x, T* y, int64_t n, const Mask& mask, double scale, int threads) {
    const RoundKeys keys(mask.seed);
#pragma omp parallel for schedule(static) num_threads(threads_for(n, threads))
    for (int64_t start = 0; start < n; start += CHUNK) {
        uint8_t bits[CHUNK / 4 + SLACK];
        const int64_t count = n - start < CHUNK ? n - start : CHUNK;
        const int place = bits_of(bits, mask, keys, mask.first + (uint64_t)start, count);
        line<RELU, STREAM>(x + start, y + start, count, bits, place, scale);
        if (STREAM) fence();
    }
}

// ---------------------------------------------------------------- channels-last memory

// The bits of some channels at PIXELS pixels of one sample: where each channel's lie.
struct Tile {
    static constexpr int CHANNELS = 64;
    static constexpr int64_t OWN = PIXELS / 8 + SLACK;  // bytes of a channel that has its bits for itself

    uint8_t bits[CHANNELS * OWN + SLACK];
    const uint8_t* at[CHANNELS];
    int64_t place[CHANNELS];

    void fill(const Mask& mask, const RoundKeys& keys, uint64_t first, int64_t pixels, int channels, int64_t pixel, int64_t count) {
        if (pixels <= PIXELS) {  // all pixels of all channels: one stretch of units
            const int start = bits_of(bits, mask, keys, first, pixels * channels);
            for (int c = 0; c < channels; ++c) at[c] = bits, place[c] = start + c * pixels;
            return;
        }
        for (int c = 0; c < channels; ++c) {
            uint8_t* own = bits + c * OWN;
            at[c] = own;
            place[c] = bits_of(own, mask, keys, first + (uint64_t)(c * pixels + pixel), count);
        }
    }
};

// WIDTH channels, or fewer, of at most 32 pixels: their bits are gathered once, a column for each channel.
template <bool RELU, class T>
void block(const T* x, T* y, int64_t stride, int pixels, const Tile& tile, int first, int channels, int64_t pixel, double factor) {
    const Floats scale = everywhere((float)factor);
    uint32_t column[WIDTH] = {};
    for (int c = 0; c < channels; ++c) column[c] = word_at(tile.at[first + c], tile.place[first + c] + pixel);
    const Columns bits = columns(column);
    Columns place = everywhere((uint32_t)1);  // of the pixel's bit
    for (int j = 0; j < pixels; ++j, x += stride, y += stride, place = doubled(place)) {
        const Floats v = channels == WIDTH ? load(x) : load_some(x, channels);
        const Floats kept = scaled_where(chosen(bits, place), RELU ? rectified(v) : v, scale);
        channels == WIDTH ? store(y, kept) : store_some(y, kept, channels);
    }
}

template <bool RELU>
void block(const double* x, double* y, int64_t stride, int pixels, const Tile& tile, int first, int channels, int64_t pixel,
           double scale) {
    for (int j = 0; j < pixels; ++j) {
        for (int c = 0; c < channels; ++c) {
            double v = x[j * stride + c];
            if (RELU && v < 0.0) v = 0.0;
            y[j * stride + c] = bit_at(tile.at[first + c], tile.place[first + c] + pixel + j) ? v * scale : 0.0;
        }
    }
}

template <bool RELU, class T>
void units_channels_last(const T* x, T* y, Layout at, const Mask& mask, double scale, int threads) {
    const int64_t tiles = (at.pixels + PIXELS - 1) / PIXELS;
    const RoundKeys keys(mask.seed);
#pragma omp parallel for schedule(static) num_threads(threads_for(at.samples* at.channels* at.pixels, threads))
    for (int64_t item = 0; item < at.samples * tiles; ++item) {
        Tile tile;
        const int64_t sample = item / tiles, pixel = item % tiles * PIXELS;
        const int64_t count = at.pixels - pixel < PIXELS ? at.pixels - pixel : PIXELS;
        for (int64_t c = 0; c < at.channels; c += Tile::CHANNELS) {
            const int channels = (int)(at.channels - c < Tile::CHANNELS ? at.channels - c : Tile::CHANNELS);
            tile.fill(mask, keys, mask.first + (uint64_t)((sample * at.channels + c) * at.pixels), at.pixels, channels, pixel, count);
            const int64_t offset = (sample * at.pixels + pixel) * at.channels + c;
            // A few pixels with all their channels: what lies side by side in memory is used while it is at hand.
            for (int64_t p = 0; p < count; p += 32) {
                const int pixels = (int)(count - p < 32 ? count - p : 32);
                for (int first = 0; first < channels; first += WIDTH) {
                    const int some = channels - first < WIDTH ? channels - first : WIDTH;
                    const int64_t start = offset + p * at.channels + first;
                    block<RELU>(x + start, y + start, at.channels, pixels, tile, first, some, p, scale);
                }
            }
        }
    }
}

template <class T>
void units_of(const void* x, void* y, Layout at, const Mask& mask, double scale, int relu, int threads) {
    const T* from = (const T*)x;
    T* to = (T*)y;
    if (at.channels_last) {
        return (relu ? units_channels_last<true, T> : units_channels_last<false, T>)(from, to, at, mask, scale, threads);
    }
    const int64_t n = at.samples * at.channels * at.pixels;
    auto contiguous = relu ? units_contiguous<true, false, T> : units_contiguous<false, false, T>;
    if (past_caches(from, to, n)) contiguous = relu ? units_contiguous<true, true, T> : units_contiguous<false, true, T>;
    contiguous(from, to, n, mask, scale, threads);
}

void units(const void* x, void* y, Layout at, Mask mask, double scale, int dtype, int relu, int threads) {
    switch (dtype) {
        case FLOAT32: return units_of<float>(x, y, at, mask, scale, relu, threads);
        case FLOAT64: return units_of<double>(x, y, at, mask, scale, relu, threads);
        case BFLOAT16: return units_of<Bfloat16>(x, y, at, mask, scale, relu, threads);
        case FLOAT16: return units_of<Float16>(x, y, at, mask, scale, relu, threads);
    }
}

// ---------------------------------------------------------------- whole channels

// A map that is kept whole or dropped whole.
template <class T>
void map_of(const T* x, T* y, int64_t n, bool kept, double factor) {
    if (!kept) {
        memset((void*)y, 0, sizeof(T) * (size_t)n);
        return;
    }
    const Floats scale = everywhere((float)factor);
    const Chosen all = chosen(0xFFFFu);
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(y + i, scaled_where(all, load(x + i), scale));
    if (i < n) store_some(y + i, scaled_where(all, load_some(x + i, (int)(n - i)), scale), (int)(n - i));
}

void map_of(const double* x, double* y, int64_t n, bool kept, double scale) {
    for (int64_t i = 0; i < n; ++i) y[i] = kept ? x[i] * scale : 0.0;
}

constexpr int64_t ROW = 1024;  // channels of a pixel in channels-last memory that are written at a time

// The same channels of every pixel: what is chosen of them is spread once.
template <class T>
void pixels_of(const T* x, T* y, int64_t pixels, int64_t stride, int64_t count, const uint8_t* bits, int place, double factor) {
    const Floats scale = everywhere((float)factor);
    Chosen row[ROW / WIDTH];
    for (int64_t c = 0; c < count; c += WIDTH) row[c / WIDTH] = chosen(word_at(bits, place + c));
    for (int64_t p = 0; p < pixels; ++p, x += stride, y += stride) {
        int64_t c = 0;
        for (; c + WIDTH <= count; c += WIDTH) store(y + c, scaled_where(row[c / WIDTH], load(x + c), scale));
        if (c < count) {
            const int some = (int)(count - c);
            store_some(y + c, scaled_where(row[c / WIDTH], load_some(x + c, some), scale), some);
        }
    }
}

void pixels_of(const double* x, double* y, int64_t pixels, int64_t stride, int64_t count, const uint8_t* bits, int place,
               double scale) {
    for (int64_t p = 0; p < pixels; ++p, x += stride, y += stride) {
        for (int64_t c = 0; c < count; ++c) y[c] = bit_at(bits, place + c) ? x[c] * scale : 0.0;
    }
}

template <class T>
void channels_of(const void* x, void* y, Layout at, const Mask& mask, double scale, int threads) {
    const T* from = (const T*)x;
    T* to = (T*)y;
    const int64_t rows = at.samples * at.channels, size = at.pixels;
    const RoundKeys keys(mask.seed);
    constexpr int64_t MOST = 64;  // maps whose bits are made at a time, unless there are few for the threads
    const int64_t share = rows / (4 * threads), group = share < 1 ? 1 : share < MOST ? share : MOST;
    if (!at.channels_last) {
#pragma omp parallel for schedule(static) num_threads(threads_for(rows* size, threads))
        for (int64_t r = 0; r < rows; r += group) {
            uint8_t bits[MOST + SLACK];
            const int64_t count = rows - r < group ? rows - r : group;
            const int place = bits_of(bits, mask, keys, mask.first + (uint64_t)r, count);
            for (int64_t i = 0; i < count; ++i) {
                map_of(from + (r + i) * size, to + (r + i) * size, size, bit_at(bits, place + i), scale);
            }
        }
        return;
    }
    const int64_t pieces = at.samples >= 4 * threads ? 1 : 4 * threads;  // of a sample's pixels
#pragma omp parallel for schedule(static) num_threads(threads_for(rows* size, threads))
    for (int64_t item = 0; item < at.samples * pieces; ++item) {
        const int64_t s = item / pieces, first = size * (item % pieces) / pieces, last = size * (item % pieces + 1) / pieces;
        for (int64_t c = 0; c < at.channels; c += ROW) {
            const int64_t count = at.channels - c < ROW ? at.channels - c : ROW;
            uint8_t bits[ROW / 4 + SLACK];
            const int place = bits_of(bits, mask, keys, mask.first + (uint64_t)(s * at.channels + c), count);
            const int64_t offset = (s * size + first) * at.channels + c;
            pixels_of(from + offset, to + offset, last - first, at.channels, count, bits, place, scale);
        }
    }
}

void channels(const void* x, void* y, Layout at, Mask mask, double scale, int dtype, int threads) {
    switch (dtype) {
        case FLOAT32: return channels_of<float>(x, y, at, mask, scale, threads);
        case FLOAT64: return channels_of<double>(x, y, at, mask, scale, threads);
        case BFLOAT16: return channels_of<Bfloat16>(x, y, at, mask, scale, threads);
        case FLOAT16: return channels_of<Float16>(x, y, at, mask, scale, threads);
    }
}

// ---------------------------------------------------------------- Gaussian noise

template <class T>
inline T noisy(T x, float noise) {
    T y;
    narrow(widened(x) * noise, y);
    return y;
}
inline double noisy(double x, float noise) { return x * (double)noise; }

template <class T>
void gaussian_of(const void* x, void* y, Layout at, const Mask& mask, const float* table, float deviation, int threads) {
    const T* from = (const T*)x;
    T* to = (T*)y;
    // lines of neighbouring units: everything at once, or the pixels of one channel, which lie `stride` apart
    const int64_t stride = at.channels_last ? at.channels : 1;
    const int64_t length = at.channels_last ? at.pixels : at.samples * at.channels * at.pixels;
    const int64_t pieces = (length + CHUNK - 1) / CHUNK, lines = at.channels_last ? at.samples * at.channels : 1;
#pragma omp parallel for schedule(static) num_threads(threads_for(lines* length, threads))
    for (int64_t item = 0; item < lines * pieces; ++item) {
        alignas(16) uint8_t random[2 * CHUNK + 16 * (STRIDE + 1)];
        const int64_t l = item / pieces, start = item % pieces * CHUNK;
        const int64_t count = length - start < CHUNK ? length - start : CHUNK;
        const uint16_t* halves = halves_of(random, mask, mask.first + (uint64_t)(l * length + start), count);
        const int64_t sample = l / stride, channel = l % stride;
        const int64_t offset = at.channels_last ? sample * at.pixels * stride + start * stride + channel : start;
        for (int64_t i = 0; i < count; ++i) {
            const float noise = 1.0f + deviation * table[halves[i]];
            to[offset + i * stride] = noisy(from[offset + i * stride], noise);
        }
    }
}

void gaussian(const void* x, void* y, Layout at, Mask mask, const float* table, float deviation, int dtype, int threads) {
    switch (dtype) {
        case FLOAT32: return gaussian_of<float>(x, y, at, mask, table, deviation, threads);
        case FLOAT64: return gaussian_of<double>(x, y, at, mask, table, deviation, threads);
        case BFLOAT16: return gaussian_of<Bfloat16>(x, y, at, mask, table, deviation, threads);
        case FLOAT16: return gaussian_of<Float16>(x, y, at, mask, table, deviation, threads);
    }
}

// ---------------------------------------------------------------- masks as bytes, and the gradient of ReLU + dropout

void keep(uint8_t* out, int64_t n, Mask mask, int threads) {
    const RoundKeys keys(mask.seed);
#pragma omp parallel for schedule(static) num_threads(threads_for(n, threads))
    for (int64_t start = 0; start < n; start += CHUNK) {
        uint8_t bits[CHUNK / 4 + SLACK];
        const int64_t count = n - start < CHUNK ? n - start : CHUNK;
        const int place = bits_of(bits, mask, keys, mask.first + (uint64_t)start, count);
        for (int64_t i = 0; i < count; ++i) out[start + i] = bit_at(bits, place + i);
    }
}

template <bool STREAM, class T>
void gradient(const T* dy, const T* y, T* dx, int64_t n, double factor) {
    const Floats scale = everywhere((float)factor);
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const Floats passed = scaled_where(positive(load(y + i)), load(dy + i), scale);
        STREAM ? stream(dx + i, passed) : store(dx + i, passed);
    }
    if (i < n) {
        const int count = (int)(n - i);
        store_some(dx + i, scaled_where(positive(load_some(y + i, count)), load_some(dy + i, count), scale), count);
    }
}

template <bool STREAM>
void gradient(const double* dy, const double* y, double* dx, int64_t n, double scale) {
    for (int64_t i = 0; i < n; ++i) dx[i] = y[i] <= 0.0 ? 0.0 : dy[i] * scale;
}

template <bool STREAM, class T>
void relu_backward_part(const T* dy, const T* y, T* dx, int64_t n, double scale, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads_for(n, threads))
    for (int64_t start = 0; start < n; start += CHUNK) {
        const int64_t count = n - start < CHUNK ? n - start : CHUNK;
        gradient<STREAM>(dy + start, y + start, dx + start, count, scale);
        if (STREAM) fence();
    }
}

template <class T>
void relu_backward_of(const void* dy, const void* y, void* dx, int64_t n, double scale, int threads) {
    const bool past = dx != y && past_caches((const T*)dy, (const T*)dx, n);
    (past ? relu_backward_part<true, T> : relu_backward_part<false, T>)((const T*)dy, (const T*)y, (T*)dx, n, scale, threads);
}

void relu_backward(const void* dy, const void* y, void* dx, int64_t n, double scale, int dtype, int threads) {
    switch (dtype) {
        case FLOAT32: return relu_backward_of<float>(dy, y, dx, n, scale, threads);
        case FLOAT64: return relu_backward_of<double>(dy, y, dx, n, scale, threads);
        case BFLOAT16: return relu_backward_of<Bfloat16>(dy, y, dx, n, scale, threads);
        case FLOAT16: return relu_backward_of<Float16>(dy, y, dx, n, scale, threads);
    }
}

// ---------------------------------------------------------------- blocks

#include "blocks.inc"

}  // namespace

#if defined(DROPKIT_ISA_AVX512)
const Kernels dropkit_avx512 = {"avx512", units, channels, gaussian, keep, relu_backward, blocks};
#elif defined(DROPKIT_ISA_AVX2)
const Kernels dropkit_avx2 = {"avx2", units, channels, gaussian, keep, relu_backward, blocks};
#else
const Kernels dropkit_portable = {"portable", units, channels, gaussian, keep, relu_backward, blocks};
#endif

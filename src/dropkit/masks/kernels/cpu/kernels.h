// The masks of dropkit on CPUs: what every instruction set implements, and what the library exports.
//
// Unit e (32 or 16 random bits) of a mask is kept when its bits, read as an unsigned integer, are not below the
// threshold. They are half-word e & 7 of Philox block e >> 3 (word e & 3 of block e >> 2); a block's counter is (its lower
// half, its upper half, site, step), its key the seed. docs/masks.md tells it in full.
#pragma once

#include <stdint.h>

struct Mask {
    uint64_t seed;
    uint32_t site;
    uint32_t step;
    uint64_t first;      // index of the first unit
    uint64_t threshold;  // in (0, 2^bits)
    int bits;            // 16 or 32
};

enum Dtype { FLOAT32 = 0, FLOAT64 = 1, BFLOAT16 = 2, FLOAT16 = 3 };

// An activation: `samples` times `channels` times `pixels`. In channels-last layout a pixel's channels lie side by side.
// Plain contiguous memory is one sample with one channel.
struct Layout {
    int64_t samples;
    int64_t channels;
    int64_t pixels;
    int channels_last;
};

// Blocks of an activation's maps, of planes, rows and columns: a map of fewer axes has 1 for the first ones.
struct Blocks {
    int64_t sizes[3];   // of the map
    int64_t widths[3];  // of a block, no larger than the map
    int shared;         // whether all channels of a sample have the same mask
};

struct Kernels {
    const char* name;
    // y = kept ? scale * x (or scale * max(x, 0)) : 0, unit by unit; x may be y
    void (*units)(const void* x, void* y, Layout layout, Mask mask, double scale, int dtype, int relu, int threads);
    // the same with one unit for each channel of each sample
    void (*channels)(const void* x, void* y, Layout layout, Mask mask, double scale, int dtype, int threads);
    // y = x * (1 + deviation * table[bits]), 16 bits a unit
    void (*gaussian)(const void* x, void* y, Layout layout, Mask mask, const float* table, float deviation, int dtype,
                     int threads);
    // one byte for each of n units: 1 kept, 0 dropped
    void (*keep)(uint8_t* out, int64_t n, Mask mask, int threads);
    // dx = y > 0 ? scale * dy : 0, for y = scale * max(x, 0) or 0
    void (*relu_backward)(const void* dy, const void* y, void* dx, int64_t n, double scale, int dtype, int threads);
    // y = kept ? scale * x : 0, where a block is dropped for each of the mask's units that is; scale = a sample's units / kept
    int (*blocks)(const void* x, void* y, Layout layout, Blocks shape, Mask mask, int dtype, int threads);
};

extern const Kernels dropkit_portable;
#if defined(DROPKIT_X86)
extern const Kernels dropkit_avx2;
extern const Kernels dropkit_avx512;
#endif

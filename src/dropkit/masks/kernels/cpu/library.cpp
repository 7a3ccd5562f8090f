// What the shared library exports: a plain C interface that needs neither torch's nor Python's headers, and the choice
// of the instruction set, once, when it is loaded.
#include "kernels.h"

#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

const Kernels* best() {
#if defined(DROPKIT_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        return &dropkit_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) return &dropkit_avx2;
#endif
    return &dropkit_portable;
}

const Kernels* current = best();

}  // namespace

EXPORT int dropkit_abi() { return 2; }

EXPORT const char* dropkit_isa() { return current->name; }

// Takes the kernels of another instruction set: for tests and benchmarks. Returns 0, or 1 where this processor lacks it.
EXPORT int dropkit_use(const char* name) {
    const Kernels* widest = best();
    if (strcmp(name, "portable") == 0) {
        current = &dropkit_portable;
        return 0;
    }
#if defined(DROPKIT_X86)
    if (strcmp(name, "avx2") == 0 && widest != &dropkit_portable) {
        current = &dropkit_avx2;
        return 0;
    }
    if (strcmp(name, "avx512") == 0 && widest == &dropkit_avx512) {
        current = &dropkit_avx512;
        return 0;
    }
#endif
    (void)widest;
    return 1;
}

EXPORT void dropkit_units(const void* x, void* y, const Layout* layout, const Mask* mask, double scale, int dtype, int relu,
                          int threads) {
    current->units(x, y, *layout, *mask, scale, dtype, relu, threads);
}

EXPORT void dropkit_channels(const void* x, void* y, const Layout* layout, const Mask* mask, double scale, int dtype,
                             int threads) {
    current->channels(x, y, *layout, *mask, scale, dtype, threads);
}

EXPORT void dropkit_gaussian(const void* x, void* y, const Layout* layout, const Mask* mask, const float* table,
                             float deviation, int dtype, int threads) {
    current->gaussian(x, y, *layout, *mask, table, deviation, dtype, threads);
}

EXPORT void dropkit_keep(uint8_t* out, int64_t n, const Mask* mask, int threads) { current->keep(out, n, *mask, threads); }

EXPORT void dropkit_relu_backward(const void* dy, const void* y, void* dx, int64_t n, double scale, int dtype, int threads) {
    current->relu_backward(dy, y, dx, n, scale, dtype, threads);
}

// Asks for huge pages in memory that nobody has touched yet: the system then clears and maps it in far fewer steps, which
// is most of the time that a large new output takes.
EXPORT void dropkit_huge_pages(void* start, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)start + page - 1) / page * page, last = ((uintptr_t)start + (uintptr_t)bytes) / page * page;
    if (first < last) madvise((void*)first, last - first, MADV_HUGEPAGE);  // a refusal changes nothing
#else
    (void)start;
    (void)bytes;
#endif
}

// Returns 0, or 1 where there was no memory for the masks.
EXPORT int dropkit_blocks(const void* x, void* y, const Layout* layout, const Blocks* shape, const Mask* mask, int dtype,
                          int threads) {
    return current->blocks(x, y, *layout, *shape, *mask, dtype, threads);
}

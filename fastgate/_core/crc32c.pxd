# CRC-32C (Castagnoli, RFC 3720 12.1) of whole 8-byte words: by the processor's instruction where it
# has one, else by tables, eight bytes a step.

from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    #ifndef FG_CRC32C
    #define FG_CRC32C
    /* Filled by fg_crc_prepare() when a module is loaded, constant from then on. */
    static uint32_t fg_crc_table[8][256];
    static int fg_crc_hardware;

    static uint32_t fg_crc_soft(uint32_t crc, const unsigned char* at, size_t words) {
        for (; words; words--, at += 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            word ^= crc;
            crc = 0;
            for (int i = 0; i < 8; i++)
                crc ^= fg_crc_table[7 - i][(word >> (8 * i)) & 255];
        }
        return crc;
    }

    #if defined(__x86_64__)
    #include <nmmintrin.h>
    #define FG_CRC_SUPPORTED() __builtin_cpu_supports("sse4.2")
    __attribute__((target("sse4.2")))
    static uint32_t fg_crc_hard(uint32_t crc, const unsigned char* at, size_t words) {
        uint64_t crc64 = crc;
        for (; words; words--, at += 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            crc64 = _mm_crc32_u64(crc64, word);
        }
        return (uint32_t)crc64;
    }
    #elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    #include <arm_acle.h>
    #define FG_CRC_SUPPORTED() 1
    static uint32_t fg_crc_hard(uint32_t crc, const unsigned char* at, size_t words) {
        for (; words; words--, at += 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            crc = __crc32cd(crc, word);
        }
        return crc;
    }
    #else
    #define FG_CRC_SUPPORTED() 0
    #define fg_crc_hard fg_crc_soft
    #endif

    static inline uint32_t fg_crc(uint32_t crc, const void* at, size_t words) {
        return fg_crc_hardware ? fg_crc_hard(crc, at, words) : fg_crc_soft(crc, at, words);
    }

    static int fg_crc_prepare(void) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = i;
            for (int bit = 0; bit < 8; bit++)
                crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;  /* the polynomial, reflected */
            fg_crc_table[0][i] = crc;
        }
        for (int step = 1; step < 8; step++)
            for (int i = 0; i < 256; i++) {
                uint32_t crc = fg_crc_table[step - 1][i];
                fg_crc_table[step][i] = crc >> 8 ^ fg_crc_table[0][crc & 255];
            }
        return fg_crc_hardware = FG_CRC_SUPPORTED() ? 1 : 0;
    }
    #endif
    """
    # Without the usual inversions at both ends: a caller that wants them does them.
    uint32_t crc_words "fg_crc"(uint32_t crc, const void* at, size_t words) noexcept nogil
    uint32_t crc_words_soft "fg_crc_soft"(uint32_t crc, const unsigned char* at,
                                          size_t words) noexcept nogil
    # Whether the processor has the instruction.
    bint crc_prepare "fg_crc_prepare"() noexcept

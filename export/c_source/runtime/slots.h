/* Slots of 2, 4 and 8 bits, and the pairs of them that are multiplied. */

#include "mmx_kernels.h"

#include <stddef.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && !defined(MMX_PORTABLE)
#include <arm_acle.h>
#define MMX_DSP 1
#else
#define MMX_DSP 0
#endif

/* Loops whose widths must be constants; and a mask that stays in a register, where one instruction shifts and masks. */
#ifdef __GNUC__
#define MMX_INLINE static inline __attribute__((always_inline))
#define MMX_APART static __attribute__((noinline)) /* once in flash, with registers of its own */
#define MMX_IN_REGISTER(value) __asm__("" : "+r"(value))
#define MMX_BEHIND(pointer, computed) __asm__("" : "+r"(pointer) : "r"(computed)) /* read it then, not before */
#else
#define MMX_INLINE static inline
#define MMX_APART static
#define MMX_IN_REGISTER(value) ((void)0)
#define MMX_BEHIND(pointer, computed) ((void)0)
#endif

/* Masks of the pairs of slots that a word holds. */
#define MASK8 0x00FF00FFu
#define MASK4 0x000F000Fu
#define MASK2 0x00030003u
#define GROUP 8u /* elements that are multiplied at once */

/* Right shifts of negative numbers are arithmetic in every compiler that this is for. */
typedef char mmx_shifts_are_arithmetic[(-1 >> 1) == -1 ? 1 : -1];

MMX_INLINE uint32_t word_at(const uint8_t *bytes) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
#else
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
#endif
}

static inline uint32_t slot(const uint8_t *in, uint32_t bits, uint32_t index) {
  if (bits == 8) return in[index];
  if (bits == 4) return in[index >> 1] >> ((index & 1u) * 4) & 15u;
  return in[index >> 2] >> ((index & 3u) * 2) & 3u;
}

static inline void put(uint8_t *out, uint32_t bits, uint32_t index, uint32_t code) {
  if (bits == 8) {
    out[index] = (uint8_t)code;
  } else {
    const uint32_t place = bits == 4 ? index >> 1 : index >> 2;
    const uint32_t shift = bits == 4 ? (index & 1u) * 4 : (index & 3u) * 2;
    const uint32_t mask = ((1u << bits) - 1u) << shift;
    out[place] = (uint8_t)((out[place] & ~mask) | code << shift);
  }
}

static inline int32_t clip(int32_t value, int32_t low, int32_t high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

MMX_INLINE uint32_t mask_of(uint32_t bits) {
  uint32_t mask = bits == 8 ? MASK8 : bits == 4 ? MASK4 : MASK2;
  MMX_IN_REGISTER(mask);
  return mask;
}

#if MMX_DSP
/* Bytes 0 and 2 of a word as 16 bits each, with their signs or without, and bytes 1 and 3: one instruction. */
#ifdef __GNUC__
MMX_INLINE uint32_t signed_even(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}

MMX_INLINE uint32_t signed_odd(uint32_t word) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}

MMX_INLINE uint32_t unsigned_even(uint32_t word) {
  uint32_t pair;
  __asm__("uxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}

MMX_INLINE uint32_t unsigned_odd(uint32_t word) {
  uint32_t pair;
  __asm__("uxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}
#else
MMX_INLINE uint32_t unsigned_even(uint32_t word) { return word & MASK8; }
MMX_INLINE uint32_t unsigned_odd(uint32_t word) { return word >> 8 & MASK8; }
MMX_INLINE uint32_t signed_even(uint32_t word) { return (uint32_t)__sxtb16((int8x4_t)word); }
MMX_INLINE uint32_t signed_odd(uint32_t word) { return (uint32_t)__sxtb16((int8x4_t)__ror(word, 8)); }
#endif
#else
/* The same as one number, 2^16 times the second byte plus the first. */
MMX_INLINE uint32_t signed_even(uint32_t word) { return ((word & MASK8) ^ 0x00800080u) - 0x00800080u; }
MMX_INLINE uint32_t signed_odd(uint32_t word) { return signed_even(word >> 8); }
#endif

/* Newlib's small memcpy goes byte by byte. */
static inline void copy(uint8_t *to, const uint8_t *from, uint32_t bytes) {
  for (; bytes >= 4; bytes -= 4, to += 4, from += 4) {
    const uint32_t word = word_at(from);
    memcpy(to, &word, sizeof word);
  }
  while (bytes--) *to++ = *from++;
}

/* Slots through a table, or as they are, four at a time: the count is a multiple of four, and at least four. Widths are
 * constants where this is called, so that there is a loop for each pair of them. */
MMX_INLINE void map_fours(uint32_t in_bits, uint32_t out_bits, const uint8_t *table, const uint8_t *in, uint8_t *out,
                          uint32_t count) {
  const uint32_t mask = (1u << in_bits) - 1u;
  const uint8_t *const end = in + count * in_bits / 8;
  do {
    const uint32_t word = in_bits == 8 ? word_at(in) : in_bits == 4 ? in[0] | (uint32_t)in[1] << 8 : in[0];
    uint32_t a = word & mask, b = word >> in_bits & mask, c = word >> 2 * in_bits & mask, d = word >> 3 * in_bits;
    d &= mask;
    if (table) a = table[a], b = table[b], c = table[c], d = table[d];
    if (out_bits == 8) {
      out[0] = (uint8_t)a, out[1] = (uint8_t)b, out[2] = (uint8_t)c, out[3] = (uint8_t)d;
    } else if (out_bits == 4) {
      out[0] = (uint8_t)(a | b << 4), out[1] = (uint8_t)(c | d << 4);
    } else {
      out[0] = (uint8_t)(a | b << 2 | c << 4 | d << 6);
    }
    in += in_bits / 2, out += out_bits / 2;
  } while (in != end);
}

#define MAP_FOURS(in_bits, out_bits)                                                                \
  static void map_##in_bits##_##out_bits(const uint8_t *table, const uint8_t *in, uint8_t *out,     \
                                         uint32_t count) {                                          \
    if (table) {                                                                                    \
      map_fours(in_bits, out_bits, table, in, out, count);                                          \
    } else {                                                                                        \
      map_fours(in_bits, out_bits, NULL, in, out, count);                                           \
    }                                                                                               \
  }
MAP_FOURS(2, 2)
MAP_FOURS(2, 4)
MAP_FOURS(2, 8)
MAP_FOURS(4, 2)
MAP_FOURS(4, 4)
MAP_FOURS(4, 8)
MAP_FOURS(8, 2)
MAP_FOURS(8, 4)
MAP_FOURS(8, 8)

typedef void mapping(const uint8_t *, const uint8_t *, uint8_t *, uint32_t);

static mapping *mapping_of(uint32_t in_bits, uint32_t out_bits) {
  if (in_bits == 2) return out_bits == 2 ? map_2_2 : out_bits == 4 ? map_2_4 : map_2_8;
  if (in_bits == 4) return out_bits == 2 ? map_4_2 : out_bits == 4 ? map_4_4 : map_4_8;
  return out_bits == 2 ? map_8_2 : out_bits == 4 ? map_8_4 : map_8_8;
}

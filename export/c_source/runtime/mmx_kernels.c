/* See mmx_kernels.h. */
#include "mmx_kernels.h"

#include <stddef.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && !defined(MMX_PORTABLE)
#include <arm_acle.h>
#define MMX_MAC(sum, pair, weights) ((sum) = __smlad((int16x2_t)(pair), (int16x2_t)(weights), (sum)))
#define MMX_MAC_LOWER(sum, pair, weights) ((sum) = __smlabb((int32_t)(pair), (int32_t)(weights), (sum)))
#define MMX_MAC_UPPER(sum, pair, weights) ((sum) = __smlatt((int32_t)(pair), (int32_t)(weights), (sum)))
#else
#define MMX_MAC_LOWER(sum, pair, weights) ((sum) += (int32_t)(((pair) & 0xFFFFu) * ((weights) & 0xFFFFu)))
#define MMX_MAC_UPPER(sum, pair, weights) ((sum) += (int32_t)(((pair) >> 16) * ((weights) >> 16)))
#define MMX_MAC(sum, pair, weights) \
  ((sum) += (int32_t)(((pair) & 0xFFFFu) * ((weights) & 0xFFFFu) + ((pair) >> 16) * ((weights) >> 16)))
#endif

/* Loops whose widths must be constants; and a mask that stays in a register, where one instruction shifts and masks. */
#ifdef __GNUC__
#define MMX_INLINE static inline __attribute__((always_inline))
#define MMX_IN_REGISTER(value) __asm__("" : "+r"(value))
#define MMX_BEHIND(pointer, computed) __asm__("" : "+r"(pointer) : "r"(computed)) /* read it then, not before */
#else
#define MMX_INLINE static inline
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

/* A number as float32 holds it: not in more digits, and not a product that an addition takes unrounded. */
static inline float as_float32(float value) {
#if defined(__GNUC__) && defined(__ARM_FP)
  __asm__("" : "+t"(value));
  return value;
#else
  volatile float stored = value;
  return stored;
#endif
}

/* The nearest integer, halves to even, of a number below 2^22. */
static inline int32_t half_even(float value) {
  /* 1.5 * 2^23: what is left below the point is rounded away. */
  return (int32_t)(as_float32(value + 12582912.0f) - 12582912.0f);
}

/* XNNPACK's own rule: float32(sum) * multiplier, halves to even. */
static inline int32_t rounded(int32_t sum, float multiplier) {
  const float product = as_float32((float)sum * multiplier);
  return half_even(product < -1024.0f ? -1024.0f : product > 1024.0f ? 1024.0f : product);
}

static inline int32_t added(const mmx_add *add, int32_t code, const uint8_t *stored, uint32_t index) {
  const uint32_t other = slot(stored, add->bits, index);
  /* Unsigned, since single terms may leave the range that their sum is within. */
  const uint32_t sum = (uint32_t)code * (uint32_t)add->own + other * (uint32_t)add->other + (uint32_t)add->constant;
  code = clip(((int32_t)sum >> add->shift) + add->offset, add->low, add->high);
  return add->table ? add->table[code] : code;
}

/* The upper half of a product. */
MMX_INLINE int32_t high_product(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b) >> 32); }

static inline int32_t scaled(const mmx_output *out, int32_t sum, uint32_t channel) {
  int32_t code;
  if (out->real) {
    code = rounded(sum, out->real[channel]) + out->rounding;
  } else {
    code = (high_product(sum, out->multiplier[channel]) + out->rounding) >> out->shift;
  }
  code = clip(code, out->low, out->high);
  return out->table ? out->table[code] : code;
}

static inline int32_t finished(const mmx_output *out, int32_t sum, uint32_t channel, const uint8_t *other,
                               uint32_t index) {
  const int32_t code = scaled(out, sum, channel);
  return out->add ? added(out->add, code, other, index) : code;
}

/* An mmx_output whose codes need a multiplier, a clip and perhaps a table, as most layers' do; no addition. */
typedef struct {
  const int32_t *bias, *multiplier;
  const float *real;
  const uint8_t *table;
  int32_t factor, rounding, high;
  uint32_t shift, bits;
} plain_output;

static int is_plain(const mmx_output *out) { return !out->add && out->low == 0; }

static plain_output plain(const mmx_output *out) {
  const plain_output result = {out->bias,   out->multiplier, out->real, out->table, out->factor,
                               out->rounding, out->high,       out->shift, out->bits};
  return result;
}

MMX_INLINE uint32_t plain_code(const plain_output *out, int32_t sum, uint32_t channel) {
  int32_t code;
  if (out->real) {
    code = rounded(sum, out->real[channel]) + out->rounding;
  } else {
    code = (high_product(sum, out->multiplier[channel]) + out->rounding) >> out->shift;
  }
  code = clip(code, 0, 255); /* one instruction */
  code = code > out->high ? out->high : code;
  return out->table ? out->table[code] : (uint32_t)code;
}

/* Two codes at an even index, which share a byte or have one each. */
MMX_INLINE void put_pair(uint8_t *out, uint32_t bits, uint32_t index, uint32_t first, uint32_t second) {
  if (bits == 4) {
    out[index >> 1] = (uint8_t)(first | second << 4);
  } else if (bits == 8) {
    out[index] = (uint8_t)first;
    out[index + 1] = (uint8_t)second;
  } else {
    put(out, 4, index >> 1, first | second << 2);
  }
}

/* Convolution: the inputs of a place are a column; two columns are multiplied with two filters at once. */

static uint32_t column_length(const mmx_window *op) {
  return (uint32_t)op->kernel_height * op->kernel_width * (op->in_channels / op->groups);
}

/* Whole groups; of weights of 2 bits a word holds two. */
static uint32_t padded_length(const mmx_window *op) {
  const uint32_t unit = op->weight_bits == 2 ? 2 * GROUP : GROUP;
  return (column_length(op) + unit - 1) / unit * unit;
}

/* The row or column of the image that a tap sees; below 0 for none. */
static inline int32_t place_of(const mmx_window *op, int32_t out, int32_t tap, int32_t stride, int32_t dilation,
                               int32_t before) {
  if (!op->transposed) return out * stride - before + tap * dilation;
  const int32_t reached = out + before - tap;
  return reached >= 0 && reached % stride == 0 ? reached / stride : -1;
}

/* Newlib's small memcpy goes byte by byte. */
static inline void copy(uint8_t *to, const uint8_t *from, uint32_t bytes) {
  for (; bytes >= 4; bytes -= 4, to += 4, from += 4) {
    const uint32_t word = word_at(from);
    memcpy(to, &word, sizeof word);
  }
  while (bytes--) *to++ = *from++;
}

/* Slots through a table (or as they are), four at a time; the count is a multiple of four, and so are the places. */
static void copy_mapped(const mmx_window *op, const uint8_t *from, uint32_t count, uint8_t *to) {
  const uint32_t bits = op->in_bits, mask = (1u << bits) - 1u;
  for (; count; count -= 4, from += bits / 2) {
    const uint32_t word = bits == 8 ? word_at(from) : bits == 4 ? from[0] | (uint32_t)from[1] << 8 : from[0];
    uint32_t a = word & mask, b = word >> bits & mask, c = word >> 2 * bits & mask, d = word >> 3 * bits & mask;
    if (op->map) a = op->map[a], b = op->map[b], c = op->map[c], d = op->map[d];
    if (op->column_bits == 8) {
      to[0] = (uint8_t)a, to[1] = (uint8_t)b, to[2] = (uint8_t)c, to[3] = (uint8_t)d;
      to += 4;
    } else {
      to[0] = (uint8_t)(a | b << 4), to[1] = (uint8_t)(c | d << 4);
      to += 2;
    }
  }
}

/* Rows and runs of whole bytes are copied; what is to be mapped or shifted goes slot by slot. */
static void fill_column(const mmx_window *op, const uint8_t *in, int32_t y, int32_t x, uint32_t group, uint8_t *column) {
  const uint32_t bits = op->column_bits, channels = op->in_channels / op->groups;
  const uint32_t run = channels * bits / 8, length = padded_length(op);
  const int whole = !op->map && op->in_bits == bits && (channels * bits & 7u) == 0;
  const int pattern = bits == 4 ? op->zero * 17 : op->zero;
  uint32_t index = 0;
  for (int32_t row = 0; row < op->kernel_height; row++) {
    const int32_t in_y = place_of(op, y, row, op->stride_y, op->dilation_y, op->top);
    const int32_t first_x = x * op->stride_x - op->left;
    const int row_inside = in_y >= 0 && in_y < op->in_height;
    if (whole && !op->transposed && op->groups == 1 && op->dilation_x == 1 && row_inside && first_x >= 0 &&
        first_x + op->kernel_width <= op->in_width) {
      const uint32_t start = ((uint32_t)in_y * op->in_width + (uint32_t)first_x) * run;
      copy(column + index * bits / 8, in + start, run * op->kernel_width);
      index += channels * op->kernel_width;
      continue;
    }
    for (int32_t tap = 0; tap < op->kernel_width; tap++) {
      const int32_t in_x = place_of(op, x, tap, op->stride_x, op->dilation_x, op->left);
      const int inside = row_inside && in_x >= 0 && in_x < op->in_width;
      const uint32_t start =
          inside ? ((uint32_t)in_y * op->in_width + (uint32_t)in_x) * op->in_channels + group * channels : 0;
      if (whole && inside) {
        copy(column + index * bits / 8, in + start * bits / 8, run);
      } else if (inside && (channels & 3u) == 0) {
        copy_mapped(op, in + start * op->in_bits / 8, channels, column + index * bits / 8);
      } else if (whole || (channels & 3u) == 0) {
        memset(column + index * bits / 8, pattern, run);
      } else {
        for (uint32_t channel = 0; channel < channels; channel++) {
          uint32_t code = op->zero;
          if (inside) {
            code = slot(in, op->in_bits, start + channel);
            code = op->map ? op->map[code] : code;
          }
          put(column, bits, index + channel, code);
        }
      }
      index += channels;
    }
  }
  for (; index < length; index++) put(column, bits, index, 0);
}

typedef struct {
  uint32_t pair[4];
} group_of_pairs;

MMX_INLINE uint32_t mask_of(uint32_t bits) {
  uint32_t mask = bits == 8 ? MASK8 : bits == 4 ? MASK4 : MASK2;
  MMX_IN_REGISTER(mask);
  return mask;
}

/* Of 8 elements: one word of 4 bits each, two of 8, or half a word of 2. */
MMX_INLINE group_of_pairs pairs_of(uint32_t bits, uint32_t mask, uint32_t word, uint32_t next) {
  group_of_pairs result;
  result.pair[0] = mask & word;
  result.pair[1] = mask & word >> bits;
  result.pair[2] = bits == 8 ? mask & next : mask & word >> 2 * bits;
  result.pair[3] = bits == 8 ? mask & next >> 8 : mask & word >> 3 * bits;
  return result;
}

/* The sum of a column's codes: stored weights are not below 0, and what was added to them is taken off by it. */
static int32_t sum_of(uint32_t bits, const uint8_t *column, uint32_t groups) {
  const uint32_t mask = mask_of(bits);
  int32_t sum = 0;
  for (; groups; groups--, column += bits) {
    const group_of_pairs codes = pairs_of(bits, mask, word_at(column), bits == 8 ? word_at(column + 4) : 0);
    for (int i = 0; i < 4; i++) MMX_MAC(sum, codes.pair[i], 0x00010001u);
  }
  return sum;
}

static int32_t weight_zero(const mmx_window *op) { return (int32_t)1 << (op->weight_bits - 1); }

/* Two columns, and two filters whose words alternate. */
typedef struct {
  const uint8_t *columns[2];
  const uint32_t *filters;
  uint32_t groups;
} factors;

/* sums[0..1]: of the first column with both filters; sums[2..3]: of the second. The widths are constants, so that there
 * is one loop for each pair of them. */
MMX_INLINE void multiply(const factors *of, int32_t *sums, uint32_t bits, uint32_t weight_bits) {
  const uint32_t mask = mask_of(bits), weight_mask = bits == weight_bits ? mask : mask_of(weight_bits);
  const uint8_t *first = of->columns[0], *second = of->columns[1], *const end = first + of->groups * bits;
  const uint32_t *filters = of->filters;
  int32_t a = 0, b = 0, c = 0, d = 0;
  if (bits == 8 && weight_bits == 8) {
    /* A word of one column after that of the other: there are registers for one. */
    for (; first != end; first += 4, second += 4, filters += 2) {
      const uint32_t u = mask & filters[0], v = mask & filters[1];
      const uint32_t p = mask & filters[0] >> 8, q = mask & filters[1] >> 8;
      uint32_t x = word_at(first);
      MMX_MAC(a, mask & x, u);
      MMX_MAC(b, mask & x, v);
      MMX_MAC(a, mask & x >> 8, p);
      MMX_MAC(b, mask & x >> 8, q);
      MMX_BEHIND(second, b);
      x = word_at(second);
      MMX_MAC(c, mask & x, u);
      MMX_MAC(d, mask & x, v);
      MMX_MAC(c, mask & x >> 8, p);
      MMX_MAC(d, mask & x >> 8, q);
    }
  } else {
    uint32_t one = 0, two = 0, half = 0;
    for (; first != end; first += bits, second += bits) {
      const group_of_pairs x = pairs_of(bits, mask, word_at(first), bits == 8 ? word_at(first + 4) : 0);
      const group_of_pairs y = pairs_of(bits, mask, word_at(second), bits == 8 ? word_at(second + 4) : 0);
      uint32_t next = 0, next_two = 0;
      if (weight_bits == 2 && half) {
        one >>= 8, two >>= 8;
      } else {
        one = filters[0], two = filters[1], filters += 2;
      }
      if (weight_bits == 8) next = filters[0], next_two = filters[1], filters += 2;
      half ^= 1u;
      const group_of_pairs u = pairs_of(weight_bits, weight_mask, one, next);
      const group_of_pairs v = pairs_of(weight_bits, weight_mask, two, next_two);
      for (int i = 0; i < 4; i++) {
        MMX_MAC(a, x.pair[i], u.pair[i]);
        MMX_MAC(b, x.pair[i], v.pair[i]);
        MMX_MAC(c, y.pair[i], u.pair[i]);
        MMX_MAC(d, y.pair[i], v.pair[i]);
      }
    }
  }
  sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

#define MULTIPLY(name, bits, weight_bits) \
  static void name(const factors *of, int32_t *sums) { multiply(of, sums, bits, weight_bits); }
MULTIPLY(multiply_4_2, 4, 2)
MULTIPLY(multiply_4_4, 4, 4)
MULTIPLY(multiply_4_8, 4, 8)
MULTIPLY(multiply_8_2, 8, 2)
MULTIPLY(multiply_8_4, 8, 4)
MULTIPLY(multiply_8_8, 8, 8)

typedef void multiplication(const factors *, int32_t *);

static multiplication *multiplication_of(const mmx_window *op) {
  if (op->column_bits == 4) {
    return op->weight_bits == 4 ? multiply_4_4 : op->weight_bits == 8 ? multiply_4_8 : multiply_4_2;
  }
  return op->weight_bits == 4 ? multiply_8_4 : op->weight_bits == 8 ? multiply_8_8 : multiply_8_2;
}

/* All filters of a group on `count` (1 or 2) columns at the places from `place` on, two filters at once. */
static void filter_columns(const mmx_window *op, multiplication *times, factors *of, uint32_t place, uint32_t count,
                           uint32_t group, const uint8_t *other, uint8_t *out) {
  const mmx_output *const output = &op->out;
  const plain_output to = plain(output);
  const mmx_add *const add = output->add;
  const uint32_t in_group = (uint32_t)(op->out_channels / op->groups), channels = op->out_channels;
  const uint32_t words = 2 * (of->groups * op->weight_bits / 4); /* of two filters */
  const int simple = output->low == 0 && (channels & 1u) == 0 && op->groups == 1;
  const int32_t zero = weight_zero(op) * to.factor;
  const int32_t less = zero * sum_of(op->column_bits, of->columns[0], of->groups);
  const int32_t less_second = count > 1 ? zero * sum_of(op->column_bits, of->columns[1], of->groups) : 0;
  int32_t sums[4];
  of->filters = op->weights + group * ((in_group + 1) / 2) * words;
  for (uint32_t filter = 0; filter < in_group; filter += 2, of->filters += words) {
    const uint32_t channel = group * in_group + filter, both = filter + 1 < in_group;
    const uint32_t index = place * channels + channel, next = index + channels;
    times(of, sums);
    {
      const int32_t bias = to.bias[channel], bias_two = to.bias[channel + both];
      sums[0] = to.factor * sums[0] - less + bias;
      sums[1] = to.factor * sums[1] - less + bias_two;
      sums[2] = to.factor * sums[2] - less_second + bias;
      sums[3] = to.factor * sums[3] - less_second + bias_two;
    }
    if (simple) {
      uint32_t a = plain_code(&to, sums[0], channel), b = plain_code(&to, sums[1], channel + 1);
      if (add) {
        a = (uint32_t)added(add, (int32_t)a, other, index);
        b = (uint32_t)added(add, (int32_t)b, other, index + 1);
      }
      put_pair(out, to.bits, index, a, b);
      if (count == 1) continue;
      a = plain_code(&to, sums[2], channel), b = plain_code(&to, sums[3], channel + 1);
      if (add) {
        a = (uint32_t)added(add, (int32_t)a, other, next);
        b = (uint32_t)added(add, (int32_t)b, other, next + 1);
      }
      put_pair(out, to.bits, next, a, b);
      continue;
    }
    for (uint32_t i = 0; i < count; i++) {
      for (uint32_t j = 0; j <= both; j++) {
        const uint32_t at = (i ? next : index) + j;
        put(out, to.bits, at, (uint32_t)finished(output, sums[2 * i + j], channel + j, other, at));
      }
    }
  }
}

/* Whether pixels are columns as they lie in memory. */
static int pixels_are_columns(const mmx_window *op) {
  const int one = op->kernel_height == 1 && op->kernel_width == 1 && op->groups == 1 && !op->top && !op->left;
  return one && !op->transposed && !op->map && op->in_bits == op->column_bits && padded_length(op) == op->in_channels;
}

void mmx_conv(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out, uint32_t *scratch) {
  const uint32_t length = padded_length(op), bytes = length * op->column_bits / 8;
  const uint32_t places = (uint32_t)op->out_height * op->out_width;
  const int direct = pixels_are_columns(op);
  multiplication *times = multiplication_of(op);
  for (uint32_t group = 0; group < op->groups; group++) {
    int32_t y = 0, x = 0;
    for (uint32_t place = 0; place < places; place += 2) {
      const uint32_t count = place + 1 < places ? 2 : 1;
      factors of = {{NULL, NULL}, NULL, length / GROUP};
      for (uint32_t i = 0; i < count; i++) {
        if (direct) {
          const uint32_t pixel = (uint32_t)(y * op->stride_y) * op->in_width + (uint32_t)(x * op->stride_x);
          of.columns[i] = in + pixel * bytes;
        } else {
          uint8_t *column = (uint8_t *)scratch + i * bytes;
          fill_column(op, in, y, x, group, column);
          of.columns[i] = column;
        }
        if (++x == op->out_width) x = 0, y++;
      }
      if (count == 1) of.columns[1] = of.columns[0];
      filter_columns(op, times, &of, place, count, group, other, out);
    }
  }
}

/* Depthwise: channel c * multiplier + m is input channel c under its filter m. Weights are [taps][channels] of 8-bit
 * or 4-bit slots. */

#define TAPS 25u /* of the largest window whose channels are computed four at a time */

/* The first byte of what lies under a tap, and of its weights. */
typedef struct {
  const uint8_t *slots;
  uint32_t weights;
} tap;

typedef struct {
  tap of[TAPS];
  uint32_t inside, outside; /* those in the image come first; those outside count where real 0 is not slot code 0 */
  uint32_t zeros;
  const uint8_t *map;
  uint32_t in_bits;
} window_taps;

/* Four slots from a byte on, as two pairs: 0 and 2, 1 and 3. */
MMX_INLINE uint32_t four(uint32_t bits, const uint8_t *from) {
  if (bits == 8) return word_at(from);
  if (bits == 4) {
    const uint32_t two = from[0] | (uint32_t)from[1] << 8;
    return two | two << 8;
  }
  return from[0] | (uint32_t)from[0] << 12;
}

static inline uint32_t four_mapped(const window_taps *taps, const uint8_t *from) {
  uint32_t word = 0;
  for (uint32_t i = 0; i < 4; i++) word |= (uint32_t)taps->map[slot(from, taps->in_bits, i)] << 8 * i;
  return word;
}

/* Four channels; where slots are mapped, `bits` is 8. */
MMX_INLINE void multiply_four(uint32_t bits, uint32_t weight_bits, int mapped, const window_taps *taps, uint32_t place,
                              const uint8_t *weights, int32_t *sums) {
  const uint32_t mask = mask_of(bits), weight_mask = bits == weight_bits ? mask : mask_of(weight_bits);
  const tap *at = taps->of, *const inside = at + taps->inside, *const end = inside + taps->outside;
  int32_t a = 0, b = 0, c = 0, d = 0;
  uint32_t even = 0, odd = 0; /* sums of codes */
  for (; at != inside; at++) {
    const uint32_t x = mapped ? four_mapped(taps, at->slots + place) : four(bits, at->slots + place);
    const uint32_t w = four(weight_bits, weights + at->weights);
    const uint32_t x_even = mask & x, x_odd = mask & x >> bits;
    const uint32_t w_even = weight_mask & w, w_odd = weight_mask & w >> weight_bits;
    MMX_MAC_LOWER(a, x_even, w_even);
    MMX_MAC_LOWER(b, x_odd, w_odd);
    MMX_MAC_UPPER(c, x_even, w_even);
    MMX_MAC_UPPER(d, x_odd, w_odd);
    even += x_even, odd += x_odd;
  }
  for (; at != end; at++) {
    const uint32_t x = taps->zeros, w = four(weight_bits, weights + at->weights);
    const uint32_t w_even = weight_mask & w, w_odd = weight_mask & w >> weight_bits;
    MMX_MAC_LOWER(a, x, w_even);
    MMX_MAC_LOWER(b, x, w_odd);
    MMX_MAC_UPPER(c, x, w_even);
    MMX_MAC_UPPER(d, x, w_odd);
    even += x, odd += x;
  }
  const uint32_t shift = weight_bits - 1; /* stored weights have 2^shift more */
  sums[0] = a - (int32_t)((even & 0xFFFFu) << shift);
  sums[1] = b - (int32_t)((odd & 0xFFFFu) << shift);
  sums[2] = c - (int32_t)((even >> 16) << shift);
  sums[3] = d - (int32_t)((odd >> 16) << shift);
}

#define MULTIPLY_FOUR(name, bits, weight_bits, mapped)                                                          \
  static void name(const window_taps *taps, uint32_t place, const uint8_t *weights, int32_t *sums) {            \
    multiply_four(bits, weight_bits, mapped, taps, place, weights, sums);                                       \
  }
MULTIPLY_FOUR(four_2_4, 2, 4, 0)
MULTIPLY_FOUR(four_4_4, 4, 4, 0)
MULTIPLY_FOUR(four_8_4, 8, 4, 0)
MULTIPLY_FOUR(four_mapped_4, 8, 4, 1)
MULTIPLY_FOUR(four_2_8, 2, 8, 0)
MULTIPLY_FOUR(four_4_8, 4, 8, 0)
MULTIPLY_FOUR(four_8_8, 8, 8, 0)
MULTIPLY_FOUR(four_mapped_8, 8, 8, 1)

typedef void four_channels(const window_taps *, uint32_t, const uint8_t *, int32_t *);

static four_channels *four_channels_of(const mmx_window *op) {
  if (op->map) return op->weight_bits == 4 ? four_mapped_4 : four_mapped_8;
  if (op->weight_bits == 4) return op->in_bits == 4 ? four_4_4 : op->in_bits == 8 ? four_8_4 : four_2_4;
  return op->in_bits == 4 ? four_4_8 : op->in_bits == 8 ? four_8_8 : four_2_8;
}

static void find_taps(const mmx_window *op, const uint8_t *in, int32_t y, int32_t x, window_taps *taps) {
  const uint32_t pixel = op->in_channels * op->in_bits / 8u, step = op->out_channels * op->weight_bits / 8u;
  tap *found = taps->of, *last = taps->of + op->kernel_height * op->kernel_width;
  uint32_t weights = 0;
  for (int32_t row = 0; row < op->kernel_height; row++) {
    const int32_t in_y = y + row * op->dilation_y;
    const int there = in_y >= 0 && in_y < op->in_height;
    int32_t in_x = x;
    for (int32_t column = 0; column < op->kernel_width; column++, weights += step, in_x += op->dilation_x) {
      if (there && in_x >= 0 && in_x < op->in_width) {
        found->slots = in + (uint32_t)(in_y * op->in_width + in_x) * pixel, found->weights = weights, found++;
      } else {
        last--, last->slots = NULL, last->weights = weights;
      }
    }
  }
  taps->inside = (uint32_t)(found - taps->of);
  taps->outside = op->zero ? (uint32_t)(op->kernel_height * op->kernel_width) - taps->inside : 0;
}

/* Whether all taps are in the image. */
static inline int is_inside(const mmx_window *op, int32_t y, int32_t x) {
  return y >= 0 && x >= 0 && y + (op->kernel_height - 1) * op->dilation_y < op->in_height &&
         x + (op->kernel_width - 1) * op->dilation_x < op->in_width;
}

/* Any window, one channel at a time. */
static int32_t window_sum(const mmx_window *op, const uint8_t *in, int32_t y, int32_t x, uint32_t channel) {
  const uint32_t multiplier = (uint32_t)(op->out_channels / op->in_channels);
  int32_t sum = 0;
  uint32_t place = channel;
  for (int32_t row = 0; row < op->kernel_height; row++) {
    const int32_t in_y = y + row * op->dilation_y;
    for (int32_t column = 0; column < op->kernel_width; column++, place += op->out_channels) {
      const int32_t in_x = x + column * op->dilation_x;
      uint32_t code = op->zero;
      if (in_y >= 0 && in_y < op->in_height && in_x >= 0 && in_x < op->in_width) {
        const uint32_t pixel = (uint32_t)in_y * op->in_width + (uint32_t)in_x;
        code = slot(in, op->in_bits, pixel * op->in_channels + channel / multiplier);
        code = op->map ? op->map[code] : code;
      }
      sum += (int32_t)code * ((int32_t)slot((const uint8_t *)op->weights, op->weight_bits, place) - weight_zero(op));
    }
  }
  return sum;
}

void mmx_depthwise(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out) {
  const uint32_t channels = op->out_channels, step = op->in_bits / 2, weight_step = op->weight_bits / 2;
  const int four_at_once = channels == op->in_channels && (channels & 3u) == 0 &&
                           (uint32_t)op->kernel_height * op->kernel_width <= TAPS;
  const int simple = is_plain(&op->out);
  const plain_output to = plain(&op->out);
  four_channels *times = four_channels_of(op);
  uint32_t index = 0;
  window_taps taps;
  int32_t sums[4];
  taps.zeros = op->zero * 0x00010001u, taps.map = op->map, taps.in_bits = op->in_bits;
  for (int32_t row = 0, y = -op->top; row < op->out_height; row++, y += op->stride_y) {
    int was_inside = 0;
    for (int32_t column = 0, x = -op->left; column < op->out_width; column++, x += op->stride_x) {
      const uint8_t *weights = (const uint8_t *)op->weights;
      const int now_inside = is_inside(op, y, x);
      const uint32_t count = four_at_once ? 4 : 1;
      uint32_t place = 0;
      if (four_at_once && was_inside && now_inside) {
        const uint32_t bytes = (uint32_t)op->stride_x * op->in_channels * op->in_bits / 8u;
        for (uint32_t i = 0; i < taps.inside; i++) taps.of[i].slots += bytes;
      } else if (four_at_once) {
        find_taps(op, in, y, x, &taps);
      }
      was_inside = now_inside;
      for (uint32_t channel = 0; channel < channels; channel += count, index += count) {
        if (four_at_once) {
          times(&taps, place, weights, sums);
          place += step, weights += weight_step;
        } else {
          sums[0] = window_sum(op, in, y, x, channel);
        }
        for (uint32_t i = 0; i < count; i++) sums[i] = to.factor * sums[i] + to.bias[channel + i];
        if (simple && four_at_once) {
          const uint32_t a = plain_code(&to, sums[0], channel), b = plain_code(&to, sums[1], channel + 1);
          const uint32_t c = plain_code(&to, sums[2], channel + 2), d = plain_code(&to, sums[3], channel + 3);
          if (to.bits == 2) {
            out[index >> 2] = (uint8_t)(a | b << 2 | c << 4 | d << 6);
          } else {
            put_pair(out, to.bits, index, a, b);
            put_pair(out, to.bits, index + 2, c, d);
          }
          continue;
        }
        for (uint32_t i = 0; i < count; i++) {
          put(out, to.bits, index + i, (uint32_t)finished(&op->out, sums[i], channel + i, other, index + i));
        }
      }
    }
  }
}

void mmx_binary_op(const mmx_binary *op, const uint8_t *left, const uint8_t *right, uint8_t *out) {
  uint32_t index = 0;
  for (uint32_t y = 0; y < op->height; y++) {
    for (uint32_t x = 0; x < op->width; x++) {
      for (uint32_t c = 0; c < op->channels; c++, index++) {
        const uint32_t first = y * op->left_strides[0] + x * op->left_strides[1] + c * op->left_strides[2];
        const uint32_t second = y * op->right_strides[0] + x * op->right_strides[1] + c * op->right_strides[2];
        const int32_t a = (int32_t)slot(left, op->left_bits, first);
        int32_t code;
        if (op->add) {
          code = added(op->add, a, right, second);
        } else {
          const int32_t b = (int32_t)slot(right, op->right_bits, second);
          code = scaled(&op->out, op->out.factor * (a + op->left_offset) * (b + op->right_offset), 0);
        }
        put(out, op->out.bits, index, (uint32_t)code);
      }
    }
  }
}

/* A mean of XNNPACK: float32(sum) * real[0] + real[1], each rounded; the zero point of the output is in it. */
static int32_t mean_code(const mmx_output *out, int32_t sum) {
  volatile float product = (float)sum * out->real[0];
  volatile float mean = product + out->real[1];
  const float limited = mean < -1024.0f ? -1024.0f : mean > 1024.0f ? 1024.0f : mean;
  const int32_t code = clip(half_even(limited) + out->rounding, out->low, out->high);
  return out->table ? out->table[code] : code;
}

/* Mean over height and width; the sum is one of slot codes, and bias[0] has what the base adds. */
void mmx_mean(const mmx_pool *op, const uint8_t *in, uint8_t *out) {
  const uint32_t pixels = (uint32_t)op->in_height * op->in_width;
  for (uint32_t channel = 0; channel < op->channels; channel++) {
    int32_t sum = 0;
    for (uint32_t pixel = 0; pixel < pixels; pixel++) {
      sum += (int32_t)slot(in, op->in_bits, pixel * op->channels + channel);
    }
    sum = op->out.factor * sum + op->out.bias[0];
    put(out, op->out.bits, channel, (uint32_t)(op->out.real ? mean_code(&op->out, sum) : scaled(&op->out, sum, 0)));
  }
}

/* What a pooling's window holds of one channel: the sum, the largest and the number of its codes in the image. */
typedef struct {
  int32_t sum, largest, count;
} window_codes;

static window_codes codes_in(const mmx_pool *op, const uint8_t *in, int32_t y, int32_t x, uint32_t channel) {
  window_codes result = {0, 0, 0};
  for (int32_t row = 0; row < op->kernel_height; row++) {
    const int32_t in_y = y * op->stride_y - op->top + row;
    if (in_y < 0 || in_y >= op->in_height) continue;
    for (int32_t column = 0; column < op->kernel_width; column++) {
      const int32_t in_x = x * op->stride_x - op->left + column;
      if (in_x < 0 || in_x >= op->in_width) continue;
      const uint32_t pixel = (uint32_t)in_y * op->in_width + (uint32_t)in_x;
      const int32_t code = (int32_t)slot(in, op->in_bits, pixel * op->channels + channel);
      result.sum += code;
      result.largest = code > result.largest ? code : result.largest;
      result.count++;
    }
  }
  return result;
}

void mmx_max_pool(const mmx_pool *op, const uint8_t *in, uint8_t *out) {
  uint32_t index = 0;
  for (int32_t y = 0; y < op->out_height; y++) {
    for (int32_t x = 0; x < op->out_width; x++) {
      for (uint32_t channel = 0; channel < op->channels; channel++, index++) {
        const int32_t code = codes_in(op, in, y, x, channel).largest;
        put(out, op->out.bits, index, op->out.table ? op->out.table[code] : (uint32_t)code);
      }
    }
  }
}

/* The mean of the codes in the image, halves away from zero. */
void mmx_average_pool(const mmx_pool *op, const uint8_t *in, uint8_t *out) {
  uint32_t index = 0;
  for (int32_t y = 0; y < op->out_height; y++) {
    for (int32_t x = 0; x < op->out_width; x++) {
      for (uint32_t channel = 0; channel < op->channels; channel++, index++) {
        const window_codes codes = codes_in(op, in, y, x, channel);
        const int32_t sum = codes.sum + codes.count * op->in_base, half = codes.count / 2;
        const int32_t mean = (sum < 0 ? sum - half : sum + half) / codes.count;
        const int32_t code = clip(mean, op->low, op->high) - op->low;
        put(out, op->out.bits, index, op->out.table ? op->out.table[code] : (uint32_t)code);
      }
    }
  }
}

void mmx_move(const mmx_gather *op, const uint8_t *in, uint8_t *out) {
  for (uint32_t y = 0; y < op->height; y++) {
    for (uint32_t x = 0; x < op->width; x++) {
      for (uint32_t c = 0; c < op->channels; c++) {
        uint32_t code = op->fill;
        if (op->rows[y] >= 0 && op->columns[x] >= 0 && op->depths[c] >= 0) {
          code = slot(in, op->in_bits, (uint32_t)(op->rows[y] + op->columns[x] + op->depths[c]));
          code = op->map ? op->map[code] : code;
        }
        put(out, op->out_bits,
            op->out_start + y * op->out_strides[0] + x * op->out_strides[1] + c * op->out_strides[2], code);
      }
    }
  }
}

void mmx_bilinear(const mmx_resize *op, const uint8_t *in, uint8_t *out) {
  uint32_t index = 0;
  for (uint32_t y = 0; y < op->out_height; y++) {
    const uint32_t rows[2] = {(uint32_t)op->rows_first[y], (uint32_t)op->rows_second[y]};
    for (uint32_t x = 0; x < op->out_width; x++) {
      const uint32_t columns[2] = {(uint32_t)op->columns_first[x], (uint32_t)op->columns_second[x]};
      for (uint32_t c = 0; c < op->channels; c++, index++) {
        int32_t mixed[2];
        for (int i = 0; i < 2; i++) {
          const uint32_t row = rows[i] * op->in_width;
          const int32_t first = (int32_t)slot(in, op->in_bits, (row + columns[0]) * op->channels + c);
          const int32_t second = (int32_t)slot(in, op->in_bits, (row + columns[1]) * op->channels + c);
          mixed[i] = first * (2048 - op->columns_weights[x]) + second * op->columns_weights[x];
        }
        const int32_t sum = mixed[0] * (2048 - op->rows_weights[y]) + mixed[1] * op->rows_weights[y];
        put(out, op->out_bits, index, (uint32_t)(((sum + (1 << 21)) >> 22) + op->shift));
      }
    }
  }
}

void mmx_map(const uint8_t *in, uint8_t in_bits, uint8_t *out, uint8_t out_bits, const uint8_t *table, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) {
    const uint32_t code = slot(in, in_bits, index);
    put(out, out_bits, index, table ? table[code] : code);
  }
}

/* The nearest integer, halves away from zero, of a number of at least 0. */
static uint32_t half_away(float value) {
  const uint32_t whole = (uint32_t)value;
  return whole + (value - (float)whole >= 0.5f);
}

void mmx_softmax(const uint8_t *in, uint8_t in_bits, uint8_t *out, uint32_t rows, uint32_t classes,
                 const float *exponentials) {
  for (uint32_t row = 0; row < rows; row++) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < classes; i++) {
      const uint32_t code = slot(in, in_bits, row * classes + i);
      largest = code > largest ? code : largest;
    }
    volatile float sum = 0.0f;
    for (uint32_t i = 0; i < classes; i++) sum += exponentials[largest - slot(in, in_bits, row * classes + i)];
    volatile float scaled_sum = sum * 0.00390625f;
    volatile float inverse = 1.0f / scaled_sum;
    for (uint32_t i = 0; i < classes; i++) {
      volatile float share = exponentials[largest - slot(in, in_bits, row * classes + i)] * inverse;
      const uint32_t code = half_away(share);
      out[row * classes + i] = (uint8_t)(code > 255 ? 255 : code);
    }
  }
}

void mmx_argmax(const uint8_t *in, uint8_t in_bits, int32_t *out, uint32_t rows, uint32_t classes) {
  for (uint32_t row = 0; row < rows; row++) {
    out[row] = 0;
    for (uint32_t i = 1; i < classes; i++) {
      const uint32_t code = slot(in, in_bits, row * classes + i);
      if (code > slot(in, in_bits, row * classes + (uint32_t)out[row])) out[row] = (int32_t)i;
    }
  }
}

void mmx_codes(const uint8_t *in, uint8_t bits, int16_t base, int8_t *out, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) out[index] = (int8_t)((int32_t)slot(in, bits, index) + base);
}

void mmx_from_codes(const int8_t *in, uint8_t *out, uint32_t count) {
  for (uint32_t index = 0; index < count; index++) out[index] = (uint8_t)(in[index] + 128);
}

uint32_t mmx_checksum(const uint8_t *in, uint8_t bits, uint32_t count) {
  uint32_t sum = 0;
  for (uint32_t index = 0; index < count; index++) sum += (slot(in, bits, index) + 1u) * (2u * index + 1u) * 0x9E3779B1u;
  return sum;
}

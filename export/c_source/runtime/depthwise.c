/* Depthwise convolution: channel c * multiplier + m is input channel c under its filter m. Weights are [taps][channels]
 * of 8 or 4 bits, with their signs. */

#include "outputs.h"

#define TAPS 25u /* of the largest window whose channels are computed four at a time */

/* The first byte of what lies under a tap, and of its weights. */
typedef struct {
  const uint8_t *slots;
  uint32_t weights;
} tap;

typedef struct {
  tap of[TAPS];
  const tap *inside, *outside; /* the ends of those in the image, which come first, and of those that see real 0 */
  uint32_t zero;
  const uint8_t *map;
  uint32_t in_bits;
} window_taps;

#if MMX_DSP
/* Four slots from a byte on, as two pairs: 0 and 2, 1 and 3. */
MMX_INLINE uint32_t four(uint32_t bits, const uint8_t *from) {
  if (bits == 8) return word_at(from);
  if (bits == 4) {
    const uint32_t two = from[0] | (uint32_t)from[1] << 8;
    return two | two << 8;
  }
  return from[0] | (uint32_t)from[0] << 12;
}

typedef struct {
  uint32_t even, odd;
} two_pairs;

/* Four weights. Of 4 bits each is the highest of its half of a word, 4096 times what it is: weights 3 and 2, 1 and 0. */
MMX_INLINE two_pairs weights_at(uint32_t bits, uint32_t mask, const uint8_t *from) {
  two_pairs result;
  if (bits == 8) {
    const uint32_t word = word_at(from);
    result.even = signed_even(word), result.odd = signed_odd(word);
  } else {
    const uint32_t word = from[0] | (uint32_t)from[1] << 8;
    const uint32_t both = word | word << 20;
    result.even = mask & both, result.odd = mask & both << 8;
  }
  return result;
}

typedef struct {
  int32_t a, b, c, d;
} four_sums;

MMX_INLINE four_sums with_tap(uint32_t bits, two_pairs x, two_pairs w, four_sums sums) {
  const int32_t even = (int32_t)x.even, odd = (int32_t)x.odd;
  if (bits == 8) {
    sums.a = __smlabb(even, (int32_t)w.even, sums.a), sums.b = __smlabb(odd, (int32_t)w.odd, sums.b);
    sums.c = __smlatt(even, (int32_t)w.even, sums.c), sums.d = __smlatt(odd, (int32_t)w.odd, sums.d);
  } else {
    sums.a = __smlabt(even, (int32_t)w.odd, sums.a), sums.b = __smlabb(odd, (int32_t)w.odd, sums.b);
    sums.c = __smlatt(even, (int32_t)w.even, sums.c), sums.d = __smlatb(odd, (int32_t)w.even, sums.d);
  }
  return sums;
}

MMX_INLINE two_pairs codes_at(uint32_t bits, uint32_t mask, int mapped, const window_taps *taps, const uint8_t *from) {
  two_pairs result;
  if (mapped) {
    const uint32_t in_bits = taps->in_bits, in_mask = (1u << in_bits) - 1u;
    const uint32_t word = in_bits == 8 ? word_at(from) : in_bits == 4 ? from[0] | (uint32_t)from[1] << 8 : from[0];
    result.even = taps->map[word & in_mask] | (uint32_t)taps->map[word >> 2 * in_bits & in_mask] << 16;
    result.odd = taps->map[word >> in_bits & in_mask] | (uint32_t)taps->map[word >> 3 * in_bits & in_mask] << 16;
  } else if (bits == 8) {
    const uint32_t word = word_at(from);
    result.even = unsigned_even(word), result.odd = unsigned_odd(word);
  } else {
    const uint32_t word = four(bits, from);
    result.even = mask & word, result.odd = mask & word >> bits;
  }
  return result;
}

/* Four channels from `place` on, a byte offset; where slots are mapped, `bits` is 8. */
MMX_INLINE void multiply_four(uint32_t bits, uint32_t weight_bits, int mapped, const window_taps *taps, uint32_t place,
                              const uint8_t *weights, int32_t *result) {
  const uint32_t mask = bits == 8 ? 0 : mask_of(bits);
  const tap *at = taps->of, *const inside = taps->inside, *const end = taps->outside;
  const uint32_t shift = weight_bits == 4 ? 12 : 0;
  uint32_t top = 0xF000F000u;
  four_sums sums = {0, 0, 0, 0};
  MMX_IN_REGISTER(top);
  for (; at != inside; at++) {
    const two_pairs x = codes_at(bits, mask, mapped, taps, at->slots + place);
    sums = with_tap(weight_bits, x, weights_at(weight_bits, top, weights + at->weights), sums);
  }
  for (; at != end; at++) {
    const two_pairs x = {taps->zero * 0x00010001u, taps->zero * 0x00010001u};
    sums = with_tap(weight_bits, x, weights_at(weight_bits, top, weights + at->weights), sums);
  }
  result[0] = sums.a >> shift, result[1] = sums.b >> shift;
  result[2] = sums.c >> shift, result[3] = sums.d >> shift;
}
#else
/* The same without pairs. */
typedef struct {
  int32_t a, b, c, d;
} four_numbers;

MMX_INLINE four_numbers weights_at(uint32_t bits, const uint8_t *from) {
  if (bits == 8) {
    const int8_t *const own = (const int8_t *)from;
    return (four_numbers){own[0], own[1], own[2], own[3]};
  }
  const uint32_t word = from[0] | (uint32_t)from[1] << 8;
  return (four_numbers){(int32_t)(word << 28) >> 28, (int32_t)(word << 24) >> 28, (int32_t)(word << 20) >> 28,
                        (int32_t)(word << 16) >> 28};
}

MMX_INLINE four_numbers codes_at(uint32_t bits, int mapped, const window_taps *taps, const uint8_t *from) {
  const uint32_t in_bits = mapped ? taps->in_bits : bits, mask = (1u << in_bits) - 1u;
  if (in_bits == 8) {
    if (!mapped) return (four_numbers){from[0], from[1], from[2], from[3]};
    return (four_numbers){taps->map[from[0]], taps->map[from[1]], taps->map[from[2]], taps->map[from[3]]};
  }
  const uint32_t word = in_bits == 4 ? from[0] | (uint32_t)from[1] << 8 : from[0];
  const uint32_t a = word & mask, b = word >> in_bits & mask, c = word >> 2 * in_bits & mask;
  const uint32_t d = word >> 3 * in_bits & mask;
  if (mapped) return (four_numbers){taps->map[a], taps->map[b], taps->map[c], taps->map[d]};
  return (four_numbers){(int32_t)a, (int32_t)b, (int32_t)c, (int32_t)d};
}

MMX_INLINE void multiply_four(uint32_t bits, uint32_t weight_bits, int mapped, const window_taps *taps, uint32_t place,
                              const uint8_t *weights, int32_t *result) {
  const tap *at = taps->of, *const inside = taps->inside, *const end = taps->outside;
  int32_t a = 0, b = 0, c = 0, d = 0;
  for (; at != inside; at++) {
    const four_numbers x = codes_at(bits, mapped, taps, at->slots + place);
    const four_numbers w = weights_at(weight_bits, weights + at->weights);
    a += x.a * w.a, b += x.b * w.b, c += x.c * w.c, d += x.d * w.d;
  }
  for (; at != end; at++) {
    const int32_t x = (int32_t)taps->zero;
    const four_numbers w = weights_at(weight_bits, weights + at->weights);
    a += x * w.a, b += x * w.b, c += x * w.c, d += x * w.d;
  }
  result[0] = a, result[1] = b, result[2] = c, result[3] = d;
}
#endif

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
  taps->inside = found;
  taps->outside = op->zero ? taps->of + op->kernel_height * op->kernel_width : found;
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
      const int32_t half = (int32_t)1 << (op->weight_bits - 1);
      const int32_t weight = (int32_t)slot((const uint8_t *)op->weights, op->weight_bits, place);
      sum += (int32_t)code * ((weight ^ half) - half);
    }
  }
  return sum;
}

/* Windows whose channels are computed four at a time. */
static void four_at_once(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out) {
  const uint32_t channels = op->out_channels, step = op->in_bits / 2, weight_step = op->weight_bits / 2;
  const uint32_t stride = (uint32_t)op->stride_x * op->in_channels * op->in_bits / 8u;
  four_channels *const times = four_channels_of(op);
  finishing *const finish = finishing_of_channels(&op->out);
  results of = results_of(&op->out, out, other);
  window_taps taps;
  taps.zero = op->zero, taps.map = op->map, taps.in_bits = op->in_bits;
  for (int32_t row = 0, y = -op->top; row < op->out_height; row++, y += op->stride_y) {
    int was_inside = 0;
    for (int32_t column = 0, x = -op->left; column < op->out_width; column++, x += op->stride_x) {
      const int now_inside = is_inside(op, y, x);
      const uint8_t *weights = (const uint8_t *)op->weights;
      uint32_t place = 0;
      if (was_inside && now_inside) {
        for (tap *at = taps.of; at != taps.inside; at++) at->slots += stride;
      } else {
        find_taps(op, in, y, x, &taps);
      }
      was_inside = now_inside;
      of.bias = op->out.bias, of.multiplier = op->out.multiplier, of.channel = 0;
      for (uint32_t channel = 0; channel < channels; channel += 4) {
        times(&taps, place, weights, of.sums);
        finish(&of);
        place += step, weights += weight_step;
      }
    }
  }
}

void mmx_depthwise(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out) {
  const uint32_t channels = op->out_channels;
  if (channels == op->in_channels && (channels & 3u) == 0 &&
      (uint32_t)op->kernel_height * op->kernel_width <= TAPS) {
    four_at_once(op, in, other, out);
    return;
  }
  uint32_t index = 0;
  for (int32_t row = 0, y = -op->top; row < op->out_height; row++, y += op->stride_y) {
    for (int32_t column = 0, x = -op->left; column < op->out_width; column++, x += op->stride_x) {
      for (uint32_t channel = 0; channel < channels; channel++, index++) {
        const int32_t sum = op->out.factor * window_sum(op, in, y, x, channel) + op->out.bias[channel];
        put(out, op->out.bits, index, (uint32_t)finished(&op->out, sum, channel, other, index));
      }
    }
  }
}

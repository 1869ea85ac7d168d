/* From accumulators to slot codes: multipliers, clips, tables, and additions of stored codes. */

#include "slots.h"

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

/* Where no integer multiplier rounds as it has to. */
MMX_APART int32_t real_code(const mmx_output *out, int32_t sum, int32_t multiplier) {
  float real;
  memcpy(&real, &multiplier, sizeof real);
  return rounded(sum, -real) + (out->rounding >> out->shift);
}

/* (product >> 32) + addend, rounded down before the addition. */
MMX_INLINE int32_t high_sum(int32_t a, int32_t b, int32_t addend) {
#if MMX_DSP && defined(__GNUC__)
  int32_t result;
  __asm__("smmla %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
  return result;
#else
  return (int32_t)(((int64_t)a * b) >> 32) + addend;
#endif
}

MMX_INLINE int32_t unclipped(const mmx_output *out, int32_t sum, int32_t multiplier) {
  return multiplier < 0 ? real_code(out, sum, multiplier) : high_sum(sum, multiplier, out->rounding) >> out->shift;
}

static inline int32_t scaled(const mmx_output *out, int32_t sum, uint32_t channel) {
  const int32_t code = clip(unclipped(out, sum, out->multiplier[channel]), out->low, out->high);
  return out->table ? out->table[code] : code;
}

static inline int32_t finished(const mmx_output *out, int32_t sum, uint32_t channel, const uint8_t *other,
                               uint32_t index) {
  const int32_t code = scaled(out, sum, channel);
  return out->add ? added(out->add, code, other, index) : code;
}

/* Of a window: two filters and the sums of each on two columns, or four channels of one. */
typedef struct {
  int32_t sums[4];
  const int32_t *bias, *multiplier; /* the next ones */
  uint8_t *to[2];                   /* where the next codes of each column go; of what is not plain, the output */
  int32_t factor, rounding, shift, high;
  const mmx_output *out;
  const uint8_t *other;
  uint32_t channel, index[2]; /* of what is not plain: the next channel, and places of codes in the output */
  uint32_t columns, filters;  /* how many of the two there are */
} results;

typedef void finishing(results *);

static results results_of(const mmx_output *out, uint8_t *to, const uint8_t *other) {
  results of;
  of.sums[2] = of.sums[3] = 0; /* finished too where there is one column */
  of.out = out, of.other = other, of.to[0] = of.to[1] = to;
  of.channel = of.index[0] = of.index[1] = 0, of.columns = of.filters = 1;
  of.bias = out->bias, of.multiplier = out->multiplier;
  of.factor = out->factor, of.rounding = out->rounding, of.shift = out->shift, of.high = out->high;
  return of;
}

/* Whether codes are clipped, and nothing else happens to them. */
static int is_plain(const mmx_output *out) { return !out->add && !out->table && out->low == 0; }

static int fills_slots(const mmx_output *out) { return out->high == (1 << out->bits) - 1; }

/* With its bias, and all else that is to be multiplied. */
MMX_INLINE int32_t whole_sum(int32_t factor, int32_t sum, int32_t bias) {
  return (int32_t)((uint32_t)factor * (uint32_t)sum + (uint32_t)bias);
}

/* The code of a sum, where `real` and `full`, whether it is clipped to all that a slot holds, are constants. */
MMX_INLINE uint32_t plain_code(const results *of, int32_t sum, int32_t multiplier, uint32_t bits, int full, int real) {
  int32_t code = real ? unclipped(of->out, sum, multiplier) : high_sum(sum, multiplier, of->rounding) >> of->shift;
  code = clip(code, 0, (1 << bits) - 1); /* one instruction */
  if (!full) code = code > of->high ? of->high : code;
  return (uint32_t)code;
}

typedef struct {
  uint32_t a, b, c, d;
} four_codes;

/* Of four sums, the last two of the channels from `second` on. */
MMX_INLINE four_codes plain_codes(const results *of, uint32_t second, uint32_t bits, int full, int real) {
  const int32_t *const bias = of->bias, *const multiplier = of->multiplier, *const sums = of->sums;
  const int32_t factor = of->factor;
  four_codes codes;
  codes.a = plain_code(of, whole_sum(factor, sums[0], bias[0]), multiplier[0], bits, full, real);
  codes.b = plain_code(of, whole_sum(factor, sums[1], bias[1]), multiplier[1], bits, full, real);
  codes.c = plain_code(of, whole_sum(factor, sums[2], bias[second]), multiplier[second], bits, full, real);
  codes.d = plain_code(of, whole_sum(factor, sums[3], bias[second + 1]), multiplier[second + 1], bits, full, real);
  return codes;
}

MMX_APART four_codes real_codes(const results *of, uint32_t second, uint32_t bits) {
  return plain_codes(of, second, bits, 0, 1);
}

/* Two codes of a column that are next to each other. Of 2 bits they are the lower half of a byte, or its `upper` one:
 * the first two of a column's channels begin a byte, so that nothing has to be kept. */
MMX_INLINE void put_plain_pair(uint8_t *to, uint32_t bits, uint32_t upper, uint32_t a, uint32_t b) {
  if (bits == 8) {
    to[0] = (uint8_t)a, to[1] = (uint8_t)b;
  } else if (bits == 4) {
    to[0] = (uint8_t)(a | b << 4);
  } else {
    to[0] = (uint8_t)(upper ? to[0] | a << 4 | b << 6 : a | b << 2);
  }
}

/* Two filters on one or two columns; `bits` and `full` are constants. */
MMX_INLINE void plain_filters(results *of, uint32_t bits, int full) {
  const int32_t *const bias = of->bias, *const next = of->multiplier;
  const four_codes codes = (next[0] | next[1]) < 0 ? real_codes(of, 0, bits) : plain_codes(of, 0, bits, full, 0);
  uint8_t *const first = of->to[0], *const second = of->to[1];
  const uint32_t upper = bits == 2 ? of->channel & 2u : 0, step = bits == 2 ? upper >> 1 : bits / 4;
  of->bias = bias + 2, of->multiplier = next + 2, of->to[0] = first + step, of->to[1] = second + step;
  if (bits == 2) of->channel += 2;
  put_plain_pair(first, bits, upper, codes.a, codes.b);
  if (of->columns == 2) put_plain_pair(second, bits, upper, codes.c, codes.d);
}

/* Four channels of one column. */
MMX_INLINE void plain_channels(results *of, uint32_t bits, int full) {
  const int32_t *const bias = of->bias, *const next = of->multiplier;
  const four_codes codes = (next[0] | next[1] | next[2] | next[3]) < 0 ? real_codes(of, 2, bits)
                                                                       : plain_codes(of, 2, bits, full, 0);
  uint8_t *const to = of->to[0];
  of->bias = bias + 4, of->multiplier = next + 4, of->to[0] = to + bits / 2;
  if (bits == 8) {
    to[0] = (uint8_t)codes.a, to[1] = (uint8_t)codes.b, to[2] = (uint8_t)codes.c, to[3] = (uint8_t)codes.d;
  } else if (bits == 4) {
    to[0] = (uint8_t)(codes.a | codes.b << 4), to[1] = (uint8_t)(codes.c | codes.d << 4);
  } else {
    to[0] = (uint8_t)(codes.a | codes.b << 2 | codes.c << 4 | codes.d << 6);
  }
}

static void plain_filters_8(results *of) { plain_filters(of, 8, 0); }
static void plain_filters_4(results *of) { plain_filters(of, 4, 0); }
static void plain_filters_2(results *of) { plain_filters(of, 2, 0); }
static void full_filters_8(results *of) { plain_filters(of, 8, 1); }
static void full_filters_4(results *of) { plain_filters(of, 4, 1); }
static void plain_channels_8(results *of) { plain_channels(of, 8, 0); }
static void plain_channels_4(results *of) { plain_channels(of, 4, 0); }
static void plain_channels_2(results *of) { plain_channels(of, 2, 0); }
static void full_channels_8(results *of) { plain_channels(of, 8, 1); }
static void full_channels_4(results *of) { plain_channels(of, 4, 1); }

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

/* Two slots at an even index, the second in the upper half. */
MMX_INLINE uint32_t pair_of(const uint8_t *in, uint32_t bits, uint32_t index) {
  if (bits == 8) return in[index] | (uint32_t)in[index + 1] << 16;
  if (bits == 4) return (in[index >> 1] & 15u) | (uint32_t)(in[index >> 1] >> 4) << 16;
  return slot(in, 2, index) | slot(in, 2, index + 1) << 16;
}

/* Two pairs of channels at two even indices, whatever happens to them; step by step, so that what belongs to a step is
 * read once. */
MMX_INLINE void finish_pairs(const results *of, uint32_t channel, uint32_t other_channel, uint32_t index,
                             uint32_t next) {
  const mmx_output *const out = of->out;
  const mmx_add *const add = out->add;
  const int32_t *const bias = out->bias, *const multiplier = out->multiplier;
  const int32_t high = out->high, low = out->low;
  int32_t a = unclipped(out, whole_sum(of->factor, of->sums[0], bias[channel]), multiplier[channel]);
  int32_t b = unclipped(out, whole_sum(of->factor, of->sums[1], bias[channel + 1]), multiplier[channel + 1]);
  int32_t c = unclipped(out, whole_sum(of->factor, of->sums[2], bias[other_channel]), multiplier[other_channel]);
  int32_t d =
      unclipped(out, whole_sum(of->factor, of->sums[3], bias[other_channel + 1]), multiplier[other_channel + 1]);
  a = clip(a, low, high), b = clip(b, low, high), c = clip(c, low, high), d = clip(d, low, high);
  if (out->table) a = out->table[a], b = out->table[b], c = out->table[c], d = out->table[d];
  if (add) {
    const uint32_t first = pair_of(of->other, add->bits, index), second = pair_of(of->other, add->bits, next);
    const uint32_t own = (uint32_t)add->own, other = (uint32_t)add->other, constant = (uint32_t)add->constant;
    const uint32_t shift = add->shift;
    const int32_t offset = add->offset, lowest = add->low, highest = add->high;
    /* Unsigned, since single terms may leave the range that their sum is within. */
    a = (int32_t)((uint32_t)a * own + constant + (first & 0xFFFFu) * other) >> shift;
    b = (int32_t)((uint32_t)b * own + constant + (first >> 16) * other) >> shift;
    c = (int32_t)((uint32_t)c * own + constant + (second & 0xFFFFu) * other) >> shift;
    d = (int32_t)((uint32_t)d * own + constant + (second >> 16) * other) >> shift;
    a = clip(a + offset, lowest, highest), b = clip(b + offset, lowest, highest);
    c = clip(c + offset, lowest, highest), d = clip(d + offset, lowest, highest);
    if (add->table) a = add->table[a], b = add->table[b], c = add->table[c], d = add->table[d];
  }
  put_pair(of->to[0], out->bits, index, (uint32_t)a, (uint32_t)b);
  put_pair(of->to[0], out->bits, next, (uint32_t)c, (uint32_t)d);
}

/* Any two filters, of which the second may be missing, on one or two columns. */
static void any_filters(results *of) {
  const mmx_output *const out = of->out;
  const uint32_t channel = of->channel;
  if (of->columns == 2 && of->filters == 2 && ((of->index[0] | of->index[1]) & 1u) == 0) {
    finish_pairs(of, channel, channel, of->index[0], of->index[1]);
  } else {
    for (uint32_t i = 0; i < of->columns; i++) {
      for (uint32_t j = 0; j < of->filters; j++) {
        const uint32_t index = of->index[i] + j;
        const int32_t sum = whole_sum(of->factor, of->sums[2 * i + j], out->bias[channel + j]);
        put(of->to[0], out->bits, index, (uint32_t)finished(out, sum, channel + j, of->other, index));
      }
    }
  }
  of->index[0] += 2, of->index[1] += 2, of->channel += 2;
}

/* Any four channels. */
static void any_channels(results *of) {
  finish_pairs(of, of->channel, of->channel + 2, of->index[0], of->index[0] + 2);
  of->index[0] += 4, of->channel += 4;
}

static finishing *finishing_of_filters(const mmx_output *out, int plain) {
  if (!plain) return any_filters;
  if (out->bits == 8) return fills_slots(out) ? full_filters_8 : plain_filters_8;
  if (out->bits == 2) return plain_filters_2;
  return fills_slots(out) ? full_filters_4 : plain_filters_4;
}

static finishing *finishing_of_channels(const mmx_output *out) {
  if (!is_plain(out)) return any_channels;
  if (out->bits == 8) return fills_slots(out) ? full_channels_8 : plain_channels_8;
  if (out->bits == 4) return fills_slots(out) ? full_channels_4 : plain_channels_4;
  return plain_channels_2;
}

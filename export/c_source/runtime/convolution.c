/* Convolution: the inputs of a place are a column; two columns are multiplied with two filters at once.
 *
 * Weights of 8 bits have their signs. Narrower ones are stored without, and what was added to them is taken off by the
 * sum of the column's codes. The two halves of a pair of weights are in the other order than those of the codes but for
 * 8 bits times 8: so a plain product of two pairs has the sum of both products in its upper half. */

#include "outputs.h"

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

/* Rows and runs of whole bytes are copied; what is to be mapped or shifted goes slot by slot. */
MMX_APART void fill_column(const mmx_window *op, const uint8_t *in, int32_t y, int32_t x, uint32_t group, uint8_t *column) {
  const uint32_t bits = op->column_bits, channels = op->in_channels / op->groups;
  const uint32_t run = channels * bits / 8, length = padded_length(op);
  const int whole = !op->map && op->in_bits == bits && (channels * bits & 7u) == 0;
  const int pattern = bits == 4 ? op->zero * 17 : op->zero;
  mapping *const map = mapping_of(op->in_bits, bits);
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
        map(op->map, in + start * op->in_bits / 8, column + index * bits / 8, channels);
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

/* Pair i, 0 to 3, of 8 elements: they are one word of 4 bits each, two of 8, or half a word of 2. */
MMX_INLINE uint32_t pair(uint32_t bits, uint32_t mask, uint32_t word, uint32_t next, uint32_t i) {
  if (bits != 8) return mask & word >> i * bits;
#if MMX_DSP
  return i & 1u ? unsigned_odd(i < 2 ? word : next) : unsigned_even(i < 2 ? word : next);
#else
  return mask & (i < 2 ? word : next) >> 8 * (i & 1u);
#endif
}

MMX_INLINE uint32_t weights_pair(uint32_t bits, uint32_t mask, uint32_t word, uint32_t next, uint32_t i) {
  if (bits != 8) return mask & word >> i * bits;
  return i & 1u ? signed_odd(i < 2 ? word : next) : signed_even(i < 2 ? word : next);
}

/* The sum, and the four bytes of a word. */
MMX_INLINE uint32_t with_bytes(uint32_t sum, uint32_t word) {
#if MMX_DSP
  return __usada8((uint8x4_t)word, (uint8x4_t)0, sum);
#else
  word = (word & MASK8) + (word >> 8 & MASK8);
  return sum + (word & 0xFFFFu) + (word >> 16);
#endif
}

/* The sum of a column's codes. */
static uint32_t sum_of(uint32_t bits, const uint8_t *column, uint32_t bytes) {
  const uint8_t *const end = column + bytes;
  uint32_t sum = 0;
  if (bits == 8) {
    for (; column != end; column += 8) sum = with_bytes(with_bytes(sum, word_at(column)), word_at(column + 4));
  } else {
    for (; column != end; column += 4) {
      const uint32_t word = word_at(column);
      sum = with_bytes(sum, (word & 0x0F0F0F0Fu) + (word >> 4 & 0x0F0F0F0Fu));
    }
  }
  return sum;
}

/* Columns and two filters, whose words alternate; `starts` are the sums before anything is multiplied. */
typedef struct {
  const uint8_t *columns[2];
  const uint8_t *end; /* of the first column */
  const uint32_t *filters;
  uint32_t starts[2];
} factors;

/* Two products of pairs, added to what there is: to the sum itself, or to `products`, whose upper half has it. */
MMX_INLINE uint32_t with_products(uint32_t products, uint32_t pair, uint32_t weights) {
#if MMX_DSP
  return (uint32_t)__smladx((int16x2_t)pair, (int16x2_t)weights, (int32_t)products);
#else
  return products + pair * weights;
#endif
}

MMX_INLINE uint32_t with_upper_half(uint32_t sum, uint32_t products, uint32_t weight_bits) {
  /* The lower half may be below 0 where weights have signs. */
  return weight_bits == 8 ? sum + (uint32_t)((int32_t)(products + 0x8000u) >> 16) : sum + (products >> 16);
}

/* Four codes of 8 bits times four weights of two filters. */
MMX_INLINE void add_products_8(uint32_t *sum, uint32_t *sum_two, const uint8_t *column, const uint32_t *filters) {
#if MMX_DSP
  const uint32_t x = word_at(column);
  const uint32_t even = unsigned_even(x), odd = unsigned_odd(x);
  *sum = (uint32_t)__smlad((int16x2_t)even, (int16x2_t)signed_even(filters[0]), (int32_t)*sum);
  *sum_two = (uint32_t)__smlad((int16x2_t)even, (int16x2_t)signed_even(filters[1]), (int32_t)*sum_two);
  *sum = (uint32_t)__smlad((int16x2_t)odd, (int16x2_t)signed_odd(filters[0]), (int32_t)*sum);
  *sum_two = (uint32_t)__smlad((int16x2_t)odd, (int16x2_t)signed_odd(filters[1]), (int32_t)*sum_two);
#else
  const int8_t *const weights = (const int8_t *)filters;
  for (int i = 0; i < 4; i++) {
    *sum += (uint32_t)(column[i] * weights[i]);
    *sum_two += (uint32_t)(column[i] * weights[4 + i]);
    MMX_IN_REGISTER(*sum); /* one after the other, as there are registers for */
  }
#endif
}

/* sums[0..1]: of the first column with both filters; sums[2..3]: of the second, if there is one. The widths and the
 * number of columns are constants, so that there is one loop for each of them. */
MMX_INLINE void multiply(const factors *of, int32_t *sums, uint32_t bits, uint32_t weight_bits, uint32_t columns) {
  const uint32_t mask = mask_of(bits), weight_mask = bits == weight_bits ? mask : mask_of(weight_bits);
  const uint8_t *first = of->columns[0], *second = of->columns[1], *const end = of->end;
  const uint32_t *filters = of->filters;
  uint32_t a = of->starts[0], b = a, c = of->starts[1], d = c;
  if (bits == 8 && weight_bits == 8) {
    for (; first != end; first += 8, second += 8, filters += 4) {
      add_products_8(&a, &b, first, filters);
      MMX_BEHIND(second, b); /* there are registers for one */
      if (columns == 2) add_products_8(&c, &d, second, filters);
      add_products_8(&a, &b, first + 4, filters + 2);
      MMX_BEHIND(second, b);
      if (columns == 2) add_products_8(&c, &d, second + 4, filters + 2);
    }
  } else {
    uint32_t one = 0, two = 0, half = 0;
    for (; first != end; first += bits, second += bits) {
      uint32_t next = 0, next_two = 0;
      if (weight_bits == 2 && half) {
        one >>= 8, two >>= 8;
      } else {
        one = filters[0], two = filters[1], filters += 2;
      }
      if (weight_bits == 8) next = filters[0], next_two = filters[1], filters += 2;
      half ^= 1u;
      uint32_t e = MMX_DSP ? a : 0, f = MMX_DSP ? b : 0, g = MMX_DSP ? c : 0, h = MMX_DSP ? d : 0;
      for (uint32_t i = 0; i < 4; i++) {
        const uint32_t u = weights_pair(weight_bits, weight_mask, one, next, i);
        const uint32_t v = weights_pair(weight_bits, weight_mask, two, next_two, i);
        const uint32_t x = pair(bits, mask, word_at(first), bits == 8 ? word_at(first + 4) : 0, i);
        e = with_products(e, x, u), f = with_products(f, x, v);
        if (columns == 1) continue;
        const uint32_t y = pair(bits, mask, word_at(second), bits == 8 ? word_at(second + 4) : 0, i);
        g = with_products(g, y, u), h = with_products(h, y, v);
        if (MMX_DSP) { /* there are registers for one pair of each */
          MMX_BEHIND(one, h);
          MMX_BEHIND(two, h);
          if (bits == 8) { /* nor for words */
            MMX_BEHIND(first, h);
            MMX_BEHIND(second, h);
          }
        }
      }
      a = MMX_DSP ? e : with_upper_half(a, e, weight_bits);
      b = MMX_DSP ? f : with_upper_half(b, f, weight_bits);
      c = MMX_DSP ? g : with_upper_half(c, g, weight_bits);
      d = MMX_DSP ? h : with_upper_half(d, h, weight_bits);
    }
  }
  sums[0] = (int32_t)a, sums[1] = (int32_t)b;
  if (columns == 2) sums[2] = (int32_t)c, sums[3] = (int32_t)d;
}

#define MULTIPLY(bits, weight_bits)                                                                                 \
  static void one_##bits##_##weight_bits(const factors *of, int32_t *sums) { multiply(of, sums, bits, weight_bits, 1); } \
  static void two_##bits##_##weight_bits(const factors *of, int32_t *sums) { multiply(of, sums, bits, weight_bits, 2); }
MULTIPLY(4, 2)
MULTIPLY(4, 4)
MULTIPLY(4, 8)
MULTIPLY(8, 2)
MULTIPLY(8, 4)
MULTIPLY(8, 8)

typedef void multiplication(const factors *, int32_t *);

/* For one column, and for two. */
static multiplication *const multiplications[2][3][2] = {
    {{one_4_2, two_4_2}, {one_4_4, two_4_4}, {one_4_8, two_4_8}},
    {{one_8_2, two_8_2}, {one_8_4, two_8_4}, {one_8_8, two_8_8}}};

/* Whether pixels are columns as they lie in memory. */
static int pixels_are_columns(const mmx_window *op) {
  const int one = op->kernel_height == 1 && op->kernel_width == 1 && op->groups == 1 && !op->top && !op->left;
  return one && !op->transposed && !op->map && op->in_bits == op->column_bits && padded_length(op) == op->in_channels;
}

/* Whether a column is one pixel whose channels are unpacked or looked up. */
static int columns_are_pixels(const mmx_window *op) {
  return op->kernel_height == 1 && op->kernel_width == 1 && op->groups == 1 && !op->top && !op->left &&
         !op->transposed && (op->in_channels & 3u) == 0;
}

/* All filters of a group on the columns of one or two places, two filters at once, whose weights are so many words. */
static void filter_columns(const mmx_window *op, multiplication *times, finishing *finish, factors *of, results *to,
                           uint32_t group, uint32_t words) {
  const uint32_t in_group = (uint32_t)(op->out_channels / op->groups);
  if (op->weight_bits != 8) {
    const uint32_t bytes = (uint32_t)(of->end - of->columns[0]), shift = op->weight_bits - 1u;
    for (uint32_t i = 0; i < to->columns; i++) {
      of->starts[i] = 0u - (sum_of(op->column_bits, of->columns[i], bytes) << shift);
    }
  }
  of->filters = op->weights + group * ((in_group + 1) / 2) * words;
  to->filters = 2, to->channel = group * in_group;
  to->bias = op->out.bias, to->multiplier = op->out.multiplier; /* of plain codes, which are in one group */
  for (uint32_t left = in_group; left; left -= to->filters, of->filters += words) {
    if (left == 1) to->filters = 1;
    times(of, to->sums);
    finish(to);
  }
}

void mmx_conv(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out, uint32_t *scratch) {
  const uint32_t length = padded_length(op), channels = op->out_channels;
  const uint32_t bytes = length * op->column_bits / 8, words = 2 * (length * op->weight_bits / 32);
  const uint32_t places = (uint32_t)op->out_height * op->out_width;
  const uint32_t codes = op->in_channels * op->column_bits / 8u;
  const int direct = pixels_are_columns(op), pixels = columns_are_pixels(op);
  mapping *const map = mapping_of(op->in_bits, op->column_bits);
  /* Pairs of 2-bit codes are plain where each place begins a byte. */
  const uint32_t unit = op->out.bits == 2 ? 3 : 1;
  const int plain = is_plain(&op->out) && op->groups == 1 && (channels & unit) == 0;
  finishing *const finish = finishing_of_filters(&op->out, plain);
  const uint32_t weights = op->weight_bits == 2 ? 0 : op->weight_bits == 4 ? 1 : 2;
  multiplication *const *const times = multiplications[op->column_bits == 8][weights];
  results to = results_of(&op->out, out, other);
  for (uint32_t group = 0; group < op->groups; group++) {
    int32_t y = 0, x = 0;
    for (uint32_t place = 0; place < places; place += to.columns) {
      factors of = {{NULL, NULL}, NULL, NULL, {0, 0}};
      to.columns = place + 1 < places ? 2 : 1;
      for (uint32_t i = 0; i < to.columns; i++) {
        to.index[i] = (place + i) * channels + group * (channels / op->groups);
        if (plain) to.to[i] = out + to.index[i] * op->out.bits / 8;
        const uint32_t pixel = (uint32_t)(y * op->stride_y) * op->in_width + (uint32_t)(x * op->stride_x);
        uint8_t *const column = (uint8_t *)scratch + i * bytes;
        if (direct) {
          of.columns[i] = in + pixel * bytes;
        } else {
          of.columns[i] = column;
          if (pixels) {
            map(op->map, in + pixel * op->in_channels * op->in_bits / 8, column, op->in_channels);
            if (codes < bytes) memset(column + codes, 0, bytes - codes);
          } else {
            fill_column(op, in, y, x, group, column);
          }
        }
        if (++x == op->out_width) x = 0, y++;
      }
      of.end = of.columns[0] + bytes;
      filter_columns(op, times[to.columns - 1], finish, &of, &to, group, words);
    }
  }
}

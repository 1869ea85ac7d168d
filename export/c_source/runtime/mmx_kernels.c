/* See mmx_kernels.h. */
#include "mmx_kernels.h"

#include <stddef.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && !defined(MMX_PORTABLE)
#include <arm_acle.h>
#define MMX_MAC(sum, pair, weights) ((sum) = __smlad((int16x2_t)(pair), (int16x2_t)(weights), (sum)))
#else
#define MMX_MAC(sum, pair, weights) \
  ((sum) += (int32_t)(((pair) & 0xFFFFu) * ((weights) & 0xFFFFu) + ((pair) >> 16) * ((weights) >> 16)))
#endif

/* Masks of the pairs of slots that a word holds. */
#define MASK8 0x00FF00FFu
#define MASK4 0x000F000Fu
#define MASK2 0x00030003u
#define GROUP 8u /* elements that are multiplied at once */

/* Right shifts of negative numbers are arithmetic in every compiler that this is for. */
typedef char mmx_shifts_are_arithmetic[(-1 >> 1) == -1 ? 1 : -1];

static inline uint32_t word_at(const uint8_t *bytes) {
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

/* The nearest integer, halves to even, of a number below 2^22. */
static int32_t half_even(float value) {
  volatile float shifted = value + 12582912.0f; /* 1.5 * 2^23: what is left below the point is rounded away */
  return (int32_t)(shifted - 12582912.0f);
}

/* XNNPACK's own rule: float32(sum) * multiplier, halves to even. The product must be rounded to float32 before it is
 * used, which a compiler that fuses multiplications and additions would leave out: hence volatile. */
static int32_t rounded(int32_t sum, float multiplier) {
  volatile float product = (float)sum * multiplier;
  return half_even(product < -1024.0f ? -1024.0f : product > 1024.0f ? 1024.0f : product);
}

static inline int32_t added(const mmx_add *add, int32_t code, const uint8_t *stored, uint32_t index) {
  const uint32_t other = slot(stored, add->bits, index);
  /* Unsigned, since single terms may leave the range that their sum is within. */
  const uint32_t sum = (uint32_t)code * (uint32_t)add->own + other * (uint32_t)add->other + (uint32_t)add->constant;
  code = clip(((int32_t)sum >> add->shift) + add->offset, add->low, add->high);
  return add->table ? add->table[code] : code;
}

static inline int32_t scaled(const mmx_output *out, int32_t sum, uint32_t channel) {
  int32_t code;
  if (out->real) {
    code = rounded(sum, out->real[channel]);
  } else {
    const int64_t half = (int64_t)1 << (31 + out->shift);
    code = (int32_t)(((int64_t)sum * out->multiplier[channel] + half) >> 32) >> out->shift;
  }
  code = clip(code + out->offset, out->low, out->high);
  return out->table ? out->table[code] : code;
}

static inline int32_t finished(const mmx_output *out, int32_t sum, uint32_t channel, const uint8_t *other,
                               uint32_t index) {
  const int32_t code = scaled(out, sum, channel);
  return out->add ? added(out->add, code, other, index) : code;
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

/* Rows and runs of whole bytes are copied; what is to be mapped or shifted goes slot by slot. */
static void fill_column(const mmx_window *op, const uint8_t *in, int32_t y, int32_t x, uint32_t group, uint8_t *column) {
  const uint32_t bits = op->column_bits, channels = op->in_channels / op->groups;
  const uint32_t run = channels * bits / 8, length = padded_length(op);
  const int whole = !op->map && op->in_bits == bits && (channels * bits & 7u) == 0;
  const int pattern = bits == 4 ? op->zero * 17 : op->zero;
  uint32_t index = 0;
  for (int32_t row = 0; row < op->kernel_height; row++) {
    const int32_t in_y = y * op->stride_y - op->top + row * op->dilation_y;
    for (int32_t tap = 0; tap < op->kernel_width; tap++) {
      const int32_t in_x = x * op->stride_x - op->left + tap * op->dilation_x;
      const int inside = in_y >= 0 && in_y < op->in_height && in_x >= 0 && in_x < op->in_width;
      const uint32_t start =
          inside ? ((uint32_t)in_y * op->in_width + (uint32_t)in_x) * op->in_channels + group * channels : 0;
      if (whole && inside) {
        memcpy(column + index * bits / 8, in + start * bits / 8, run);
      } else if (whole) {
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

static inline group_of_pairs pairs4(uint32_t word) {
  const group_of_pairs result = {{word & MASK4, word >> 4 & MASK4, word >> 8 & MASK4, word >> 12 & MASK4}};
  return result;
}

static inline group_of_pairs pairs8(uint32_t word, uint32_t next) {
  const group_of_pairs result = {{word & MASK8, word >> 8 & MASK8, next & MASK8, next >> 8 & MASK8}};
  return result;
}

static inline group_of_pairs pairs2(uint32_t word) {
  const group_of_pairs result = {{word & MASK2, word >> 2 & MASK2, word >> 4 & MASK2, word >> 6 & MASK2}};
  return result;
}

static inline group_of_pairs column_pairs(uint32_t bits, const uint8_t *column, uint32_t group) {
  if (bits == 4) return pairs4(word_at(column + 4 * group));
  return pairs8(word_at(column + 8 * group), word_at(column + 8 * group + 4));
}

static inline group_of_pairs weight_pairs(uint32_t bits, const uint32_t *weights, uint32_t group) {
  if (bits == 4) return pairs4(weights[group]);
  if (bits == 8) return pairs8(weights[2 * group], weights[2 * group + 1]);
  return pairs2(weights[group >> 1] >> (group & 1u) * 8);
}

/* The sum of a column's codes: stored weights are not below 0, and what was added to them is taken off by it. */
static int32_t sum_of(uint32_t bits, const uint8_t *column, uint32_t groups) {
  int32_t sum = 0;
  for (uint32_t group = 0; group < groups; group++) {
    const group_of_pairs codes = column_pairs(bits, column, group);
    for (int i = 0; i < 4; i++) MMX_MAC(sum, codes.pair[i], 0x00010001u);
  }
  return sum;
}

/* sums[0..1]: of the first column with both filters; sums[2..3]: of the second. */
static inline void multiply(uint32_t bits, uint32_t weight_bits, const uint8_t *const *columns,
                            const uint32_t *const *filters, uint32_t groups, int32_t *sums) {
  const uint8_t *first = columns[0], *second = columns[1];
  const uint32_t *one = filters[0], *two = filters[1];
  int32_t a = 0, b = 0, c = 0, d = 0;
  for (uint32_t group = 0; group < groups; group++) {
    const group_of_pairs x = column_pairs(bits, first, group), y = column_pairs(bits, second, group);
    const group_of_pairs u = weight_pairs(weight_bits, one, group), v = weight_pairs(weight_bits, two, group);
    for (int i = 0; i < 4; i++) {
      MMX_MAC(a, x.pair[i], u.pair[i]);
      MMX_MAC(b, x.pair[i], v.pair[i]);
      MMX_MAC(c, y.pair[i], u.pair[i]);
      MMX_MAC(d, y.pair[i], v.pair[i]);
    }
  }
  sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

/* One loop for each pair of widths, since both are constants in it. */
#define MULTIPLY(name, bits, weight_bits)                                                              \
  static void name(const uint8_t *const *columns, const uint32_t *const *filters, uint32_t groups, int32_t *sums) { \
    multiply(bits, weight_bits, columns, filters, groups, sums);                                       \
  }
MULTIPLY(multiply_4_2, 4, 2)
MULTIPLY(multiply_4_4, 4, 4)
MULTIPLY(multiply_4_8, 4, 8)
MULTIPLY(multiply_8_2, 8, 2)
MULTIPLY(multiply_8_4, 8, 4)
MULTIPLY(multiply_8_8, 8, 8)

typedef void multiplication(const uint8_t *const *, const uint32_t *const *, uint32_t, int32_t *);

static multiplication *multiplication_of(const mmx_window *op) {
  if (op->column_bits == 4) {
    return op->weight_bits == 4 ? multiply_4_4 : op->weight_bits == 8 ? multiply_4_8 : multiply_4_2;
  }
  return op->weight_bits == 4 ? multiply_8_4 : op->weight_bits == 8 ? multiply_8_8 : multiply_8_2;
}

static int32_t weight_zero(const mmx_window *op) { return (int32_t)1 << (op->weight_bits - 1); }

/* Filters of a group on `count` (1 or 2) columns at the places index[]. */
static void filter_columns(const mmx_window *op, multiplication *times, const uint8_t *const *columns,
                           const uint32_t *places, uint32_t count, uint32_t group, const uint8_t *other, uint8_t *out) {
  const uint32_t filters_in_group = (uint32_t)(op->out_channels / op->groups);
  const uint32_t length = padded_length(op), groups = length / GROUP, words = length * op->weight_bits / 32;
  int32_t correction[2], sums[4];
  for (uint32_t i = 0; i < count; i++) {
    correction[i] = weight_zero(op) * op->out.factor * sum_of(op->column_bits, columns[i], groups);
  }
  for (uint32_t filter = 0; filter < filters_in_group; filter += 2) {
    const uint32_t channel = group * filters_in_group + filter;
    const uint32_t both = filter + 1 < filters_in_group;
    const uint32_t *filters[2];
    filters[0] = op->weights + channel * words;
    filters[1] = filters[0] + both * words;
    times(columns, filters, groups, sums);
    for (uint32_t i = 0; i < count; i++) {
      for (uint32_t j = 0; j <= both; j++) {
        const uint32_t index = places[i] * op->out_channels + channel + j;
        const int32_t sum = op->out.factor * sums[2 * i + j] - correction[i] + op->out.bias[channel + j];
        put(out, op->out.bits, index, (uint32_t)finished(&op->out, sum, channel + j, other, index));
      }
    }
  }
}

void mmx_conv(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out, uint32_t *scratch) {
  const uint32_t bytes = padded_length(op) * op->column_bits / 8;
  const uint32_t places = (uint32_t)op->out_height * op->out_width;
  multiplication *times = multiplication_of(op);
  for (uint32_t group = 0; group < op->groups; group++) {
    for (uint32_t place = 0; place < places; place += 2) {
      const uint32_t count = place + 1 < places ? 2 : 1;
      const uint32_t both[2] = {place, place + count - 1};
      const uint8_t *columns[2];
      for (uint32_t i = 0; i < count; i++) {
        uint8_t *column = (uint8_t *)scratch + i * bytes;
        fill_column(op, in, (int32_t)(both[i] / op->out_width), (int32_t)(both[i] % op->out_width), group, column);
        columns[i] = column;
      }
      if (count == 1) columns[1] = columns[0];
      filter_columns(op, times, columns, both, count, group, other, out);
    }
  }
}

/* Depthwise: channel c * multiplier + m is input channel c under its filter m. Weights are [taps][channels] of 8-bit
 * or 4-bit slots. */
void mmx_depthwise(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out) {
  const uint32_t multiplier = (uint32_t)(op->out_channels / op->in_channels);
  uint32_t index = 0;
  for (int32_t y = 0; y < op->out_height; y++) {
    for (int32_t x = 0; x < op->out_width; x++) {
      for (uint32_t channel = 0; channel < op->out_channels; channel++, index++) {
        int32_t sum = 0;
        uint32_t tap = channel;
        for (int32_t row = 0; row < op->kernel_height; row++) {
          const int32_t in_y = y * op->stride_y - op->top + row * op->dilation_y;
          for (int32_t column = 0; column < op->kernel_width; column++, tap += op->out_channels) {
            const int32_t in_x = x * op->stride_x - op->left + column * op->dilation_x;
            uint32_t code = op->zero;
            if (in_y >= 0 && in_y < op->in_height && in_x >= 0 && in_x < op->in_width) {
              const uint32_t pixel = (uint32_t)in_y * op->in_width + (uint32_t)in_x;
              code = slot(in, op->in_bits, pixel * op->in_channels + channel / multiplier);
              code = op->map ? op->map[code] : code;
            }
            const uint32_t weight = slot((const uint8_t *)op->weights, op->weight_bits, tap);
            sum += (int32_t)code * ((int32_t)weight - weight_zero(op));
          }
        }
        sum = op->out.factor * sum + op->out.bias[channel];
        put(out, op->out.bits, index, (uint32_t)finished(&op->out, sum, channel, other, index));
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
  const int32_t code = clip(half_even(limited) + out->offset, out->low, out->high);
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

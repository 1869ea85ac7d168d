/* Additions, products, means and poolings. */

#include "outputs.h"

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

/* Copies, tables, and the ends of a network. */

#include "outputs.h"

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
  const uint32_t fours = count & ~3u;
  if (fours) mapping_of(in_bits, out_bits)(table, in, out, fours);
  for (uint32_t index = fours; index < count; index++) {
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

/* Integer kernels on activations that are packed in slots of 2, 4 or 8 bits. C99, no malloc, no other library.
 *
 * A tensor is a run of slots, height by width by channels, the first element in the lowest bits of the first byte. A
 * slot holds code - base, which is never below 0; the base of each tensor stands in the generated file. Accumulators
 * are those of TensorFlow Lite's int8 operators, and rounding is that of XNNPACK: a float32 product, halves to even.
 * The generator proves for every multiplier here that integers round alike; where none does, it gives a float.
 *
 * With the DSP extension (Cortex-M4, M7, M33) two products are summed up by one SMLAD; define MMX_PORTABLE to do
 * without. Compile without -ffast-math.
 */
#ifndef MMX_KERNELS_H
#define MMX_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ADD or SUB of a computed slot code and one that is stored: (code * own + stored * other + constant) >> shift. */
typedef struct {
  int32_t own, other, constant;
  int16_t offset, low, high;
  uint8_t shift, bits;   /* bits: of the slots of the stored operand */
  const uint8_t *table;  /* of the result, or NULL */
} mmx_add;

/* How an accumulator becomes a slot code:
 *   sum = factor * accumulator + bias[channel]
 *   code = ((sum * multiplier[channel] >> 32) + rounding) >> shift, clipped to low..high
 * and then by the table and the addition, where there are. A multiplier below 0 is the bits of a float below 0:
 *   code = sum * -float, rounded, + (rounding >> shift) */
typedef struct {
  const int32_t *bias;
  const int32_t *multiplier;
  const float *real; /* of a mean, instead of its multiplier: scale and offset; or NULL */
  int32_t factor;
  int32_t rounding; /* a half and the zero point less the base, both shifted */
  int16_t low, high;
  uint8_t shift, bits;   /* bits: of the slots that are written */
  const uint8_t *table;  /* or NULL */
  const mmx_add *add;    /* or NULL */
} mmx_output;

typedef struct {
  uint16_t in_height, in_width, in_channels;
  uint16_t out_height, out_width, out_channels;
  uint8_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
  uint8_t top, left;     /* rows and columns of real 0 in front of the image */
  uint8_t in_bits;       /* of the input's slots */
  uint8_t column_bits;   /* of the slots that are multiplied: 4 or 8 */
  uint8_t weight_bits;   /* 2, 4 or 8 */
  uint8_t zero;          /* slot code of real 0, after the map */
  uint8_t transposed;    /* the input's pixels lie `stride` apart, with zeros between */
  uint16_t groups;
  const uint8_t *map;    /* slot code of the input -> slot code that is multiplied, or NULL */
  const uint32_t *weights;
  mmx_output out;
} mmx_window;

/* Sizes and strides of operands on a result of height by width by channels; a stride is 0 where one repeats. */
typedef struct {
  uint16_t height, width, channels;
  uint16_t left_strides[3], right_strides[3];
  uint8_t left_bits, right_bits;
  int16_t left_offset, right_offset; /* base less zero point */
  mmx_output out;                    /* of a MUL */
  const mmx_add *add;                /* of an ADD or SUB, else NULL */
} mmx_binary;

typedef struct {
  uint16_t in_height, in_width, channels, out_height, out_width;
  uint8_t kernel_height, kernel_width, stride_y, stride_x, top, left;
  uint8_t in_bits;
  int16_t in_base;
  int16_t low, high; /* codes of an average pooling */
  mmx_output out;    /* of a mean: multiplier, bias, shift, table; of the others bits and table */
} mmx_pool;

/* A copy with an offset for every place along three axes, -1 for places that get the filling. */
typedef struct {
  uint16_t height, width, channels;
  const int32_t *rows, *columns, *depths;
  uint32_t out_start, out_strides[3];
  uint8_t in_bits, out_bits, fill;
  const uint8_t *map; /* or NULL */
} mmx_gather;

/* Of every row and column: the two pixels between which it lies, and the weight of the second in 1/2048. */
typedef struct {
  uint16_t in_width, channels, out_height, out_width;
  const int32_t *rows_first, *rows_second, *rows_weights;
  const int32_t *columns_first, *columns_second, *columns_weights;
  uint8_t in_bits, out_bits;
  int16_t shift; /* base of the input less that of the output */
} mmx_resize;

/* Convolutions of one group, depthwise ones and poolings go from the first row to the last, and never read a row of the
 * input again that lies above the window of the row that they write, or of the next one's first pixel: the plan of
 * memory lets their output grow into their input. */
void mmx_conv(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out, uint32_t *scratch);
void mmx_depthwise(const mmx_window *op, const uint8_t *in, const uint8_t *other, uint8_t *out);
void mmx_binary_op(const mmx_binary *op, const uint8_t *left, const uint8_t *right, uint8_t *out);
void mmx_mean(const mmx_pool *op, const uint8_t *in, uint8_t *out);
void mmx_max_pool(const mmx_pool *op, const uint8_t *in, uint8_t *out);
void mmx_average_pool(const mmx_pool *op, const uint8_t *in, uint8_t *out);
void mmx_move(const mmx_gather *op, const uint8_t *in, uint8_t *out);
void mmx_bilinear(const mmx_resize *op, const uint8_t *in, uint8_t *out);

/* Slots to slots through a table, which may be NULL; element by element, so that `in` may be `out`. */
void mmx_map(const uint8_t *in, uint8_t in_bits, uint8_t *out, uint8_t out_bits, const uint8_t *table, uint32_t count);

/* Rows of `classes` 8-bit slots -> 8-bit slots. exponentials[d]: of the difference d to the row's largest code. */
void mmx_softmax(const uint8_t *in, uint8_t in_bits, uint8_t *out, uint32_t rows, uint32_t classes,
                 const float *exponentials);
void mmx_argmax(const uint8_t *in, uint8_t in_bits, int32_t *out, uint32_t rows, uint32_t classes);

/* Slots of any width -> the codes of a file's int8 tensor. */
void mmx_codes(const uint8_t *in, uint8_t bits, int16_t base, int8_t *out, uint32_t count);
/* A file's int8 codes -> 8-bit slots of base -128. */
void mmx_from_codes(const int8_t *in, uint8_t *out, uint32_t count);

/* For tests: a sum over all slots that depends on their places. */
uint32_t mmx_checksum(const uint8_t *in, uint8_t bits, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif

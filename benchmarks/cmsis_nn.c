/* Calls CMSIS-NN's int8 kernel of every layer in layers.h once; see cmsis_nn.py. */
#include "arm_nnfunctions.h"
#include "emulated.h"
#include "layers.h"

enum { KIND, IN_H, IN_W, IN_C, OUT_H, OUT_W, OUT_C, K_H, K_W, S_H, S_W, P_H, P_W, D_H, D_W, ADDED };

static int8_t input[INPUT], weights[WEIGHTS], output[OUTPUT];
static int32_t bias[CHANNELS], multiplier[CHANNELS], shift[CHANNELS];
static int8_t scratch[1 << 18] __attribute__((aligned(8)));
static const int *layer;
static int32_t failed;

static void call(void) {
  const cmsis_nn_dims in = {1, layer[IN_H], layer[IN_W], layer[IN_C]};
  const cmsis_nn_dims out = {1, layer[OUT_H], layer[OUT_W], layer[OUT_C]};
  const cmsis_nn_dims biases = {1, 1, 1, layer[OUT_C]};
  const cmsis_nn_tile stride = {layer[S_W], layer[S_H]}, padding = {layer[P_W], layer[P_H]};
  const cmsis_nn_tile dilation = {layer[D_W], layer[D_H]};
  const cmsis_nn_activation activation = {-128, 127};
  const cmsis_nn_per_channel_quant_params channels = {multiplier, shift};
  const cmsis_nn_context context = {scratch, sizeof scratch};
  if (layer[KIND] == 0) {
    const cmsis_nn_conv_params params = {128, -128, stride, padding, dilation, activation};
    const cmsis_nn_dims filter = {layer[OUT_C], layer[K_H], layer[K_W], layer[IN_C]};
    failed = arm_convolve_wrapper_s8_get_buffer_size(&params, &in, &filter, &out) > (int32_t)sizeof scratch ||
             arm_convolve_wrapper_s8(&context, &params, &channels, &in, input, &filter, weights, &biases, bias, &out,
                                     output);
  } else if (layer[KIND] == 1) {
    const cmsis_nn_dw_conv_params params = {128,     -128,     layer[OUT_C] / layer[IN_C], stride,
                                            padding, dilation, activation};
    const cmsis_nn_dims filter = {1, layer[K_H], layer[K_W], layer[OUT_C]};
    failed = arm_depthwise_conv_wrapper_s8_get_buffer_size(&params, &in, &filter, &out) > (int32_t)sizeof scratch ||
             arm_depthwise_conv_wrapper_s8(&context, &params, &channels, &in, input, &filter, weights, &biases, bias,
                                           &out, output);
  } else {
    const cmsis_nn_fc_params params = {128, 0, -128, activation};
    const cmsis_nn_per_tensor_quant_params tensor = {multiplier[0], shift[0]};
    const cmsis_nn_dims row = {1, 1, 1, layer[IN_C]}, filter = {layer[IN_C], 1, 1, layer[OUT_C]};
    failed = arm_fully_connected_s8(&context, &params, &tensor, &row, input, &filter, weights, &biases, bias, &biases,
                                    output);
  }
  if (!failed && layer[ADDED]) {
    /* Whatever is added: codes do not matter. */
    failed = arm_elementwise_add_s8(output, output, 128, 1 << 30, 0, 128, 1 << 30, 0, 20, output, -128, 1 << 30, -18,
                                    activation.min, activation.max, layer[OUT_H] * layer[OUT_W] * layer[OUT_C]);
  }
}

int main(void) {
  char name[12];
  for (int channel = 0; channel < CHANNELS; ++channel) {
    multiplier[channel] = 1 << 30;
    shift[channel] = -8;
  }
  for (int index = 0; index < LAYERS; ++index) {
    char *at = name + sizeof name - 1;
    int rest = index;
    *at = 0;
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    layer = layers[index];
    emulated_measure(at, call);
    if (failed) return index + 1;
  }
  return 0;
}

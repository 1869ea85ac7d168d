/* Runs a generated network on images in flash: one whole call is measured, all logits are told. */
#include "emulated.h"
#include "images.h"
#include "net.h"

static int8_t logits[LOGITS];
static const uint8_t *image;

static void call(void) { net_run(image, logits); }

int main(void) {
  for (int index = 0; index < IMAGES; ++index) {
    image = images[index];
    if (index) {
      call();
    } else {
      emulated_measure("net", call);
    }
    for (int logit = 0; logit < LOGITS; ++logit) {
      emulated_write_number(logits[logit]);
      emulated_write(" ");
    }
    emulated_write("\n");
  }
  return 0;
}

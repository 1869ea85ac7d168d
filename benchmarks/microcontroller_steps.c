/* Tells the instructions of every step of a generated network, which calls net_trace behind each. */
#include "emulated.h"
#include "images.h"
#include "net.h"

static int8_t logits[LOGITS];
static uint32_t begun, spent[NET_STEPS];

void net_trace(uint32_t step, const uint8_t *slots, uint8_t bits, uint32_t count) {
  (void)slots, (void)bits, (void)count;
  spent[step] = emulated_instructions(begun, emulated_clock());
  begun = emulated_clock();
}

int main(void) {
  begun = emulated_clock();
  net_run(images[0], logits);
  for (uint32_t step = 0; step < NET_STEPS; ++step) {
    emulated_write_number((int32_t)spent[step]);
    emulated_write("\n");
  }
  return 0;
}

/* Vector table, start and end of a program on QEMU's MPS2 boards, faults, and what emulated.h promises.

   Output and exit are semihosting calls ("Semihosting for AArch32 and AArch64", Arm). Time is the boards' CMSDK
   timer 0 at 25 MHz, on a virtual clock of 128 ns an instruction (-icount shift=7): 3.2 ticks each, so that the
   difference of two readings, which is off by less than one tick, belongs to one number of instructions. */
#include "emulated.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define TIMER_CONTROL REGISTER(0x40000000)
#define TIMER_VALUE REGISTER(0x40000004)
#define TIMER_RELOAD REGISTER(0x40000008)
#define CPACR REGISTER(0xE000ED88)
#define SHCSR REGISTER(0xE000ED24)
#define CFSR REGISTER(0xE000ED28)
#define MMFAR REGISTER(0xE000ED34)
#define BFAR REGISTER(0xE000ED38)
#define MPU_CONTROL REGISTER(0xE000ED94)
#define MPU_BASE REGISTER(0xE000ED9C)
#define MPU_ATTRIBUTES REGISTER(0xE000EDA0)

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026, FAULT_EXIT = 200 };
enum { MMFAR_VALID = 1 << 7 };

#define PAINT 0xC5C5C5C5u

extern uint32_t emulated_stack_bottom[], emulated_stack_top[], emulated_data_begin[], emulated_data_end[];
extern uint32_t emulated_data_source[], emulated_bss_begin[], emulated_bss_end[];

int main(void);
void emulated_reset(void);
void emulated_fault(void);
void emulated_fault_told(const uint32_t *frame);
uint32_t emulated_ticks(void (*run)(void));

static uint32_t overhead, deepest;

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    emulated_stack_top, emulated_reset, emulated_fault, emulated_fault,
    emulated_fault, emulated_fault, emulated_fault,
};

static int semihost(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void emulated_write(const char *text) { semihost(SYS_WRITE0, text); }

static void write_unsigned(uint32_t value, uint32_t base) {
  char text[11], *at = text + sizeof text - 1;
  *at = 0;
  do {
    *--at = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  emulated_write(at);
}

void emulated_write_number(int32_t value) {
  if (value < 0) emulated_write("-");
  write_unsigned(value < 0 ? 0u - (uint32_t)value : (uint32_t)value, 10);
}

static uint32_t *stack_pointer(void) {
  uint32_t *sp;
  __asm__ volatile("mov %0, sp" : "=r"(sp));
  return sp;
}

/* The lowest word of the stack that somebody has written. */
static uint32_t *lowest_written(void) {
  uint32_t *word = emulated_stack_bottom;
  while (word < emulated_stack_top && *word == PAINT) ++word;
  return word;
}

static void paint(void) {
  for (volatile uint32_t *word = stack_pointer() - 1; word >= emulated_stack_bottom; --word) *word = PAINT;
}

static void note_deepest(void) {
  const uint32_t used = (uint32_t)(emulated_stack_top - lowest_written()) * 4;
  if (used > deepest) deepest = used;
}

/* Ticks from one reading of the timer to the other, around one call. r4 and r5 survive what it calls. */
__attribute__((naked)) uint32_t emulated_ticks(void (*run)(void)) {
  (void)run;
  __asm__ volatile(
      "push {r4, r5, r6, lr}\n"
      "ldr r4, =0x40000004\n"
      "ldr r5, [r4]\n"
      "blx r0\n"
      "ldr r0, [r4]\n"
      "subs r0, r5, r0\n"
      "pop {r4, r5, r6, pc}\n"
      ".ltorg\n");
}

__attribute__((naked)) static void nothing(void) { __asm__ volatile("bx lr"); }

static uint32_t instructions_of(uint32_t ticks) { return (uint32_t)((ticks * UINT64_C(5) + 8) >> 4); }

uint32_t emulated_clock(void) { return TIMER_VALUE; }

/* The timer counts down. */
uint32_t emulated_instructions(uint32_t earlier, uint32_t later) { return instructions_of(earlier - later); }

static void tell(const char *name, uint32_t instructions, uint32_t stack) {
  emulated_write("#measured ");
  write_unsigned(instructions, 10);
  emulated_write(" ");
  write_unsigned(stack, 10);
  emulated_write(" ");
  emulated_write(name);
  emulated_write("\n");
}

void emulated_measure(const char *name, void (*run)(void)) {
  note_deepest();
  paint();
  const uint32_t instructions = instructions_of(emulated_ticks(run)) - overhead;
  /* emulated_ticks has pushed four words of its own. */
  const uint32_t below = (uint32_t)(stack_pointer() - lowest_written()) * 4;
  tell(name, instructions, below > 16 ? below - 16 : 0);
}

void emulated_exit(int code) {
  const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
  note_deepest();
  emulated_write("#stack ");
  write_unsigned(deepest, 10);
  emulated_write("\n");
  semihost(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

/* Told from another place of the stack: below its end there may be no memory. */
__attribute__((naked)) void emulated_fault(void) {
  __asm__ volatile(
      "mov r0, sp\n"
      "ldr sp, =emulated_stack_bottom + 1024\n"
      "b emulated_fault_told\n"
      ".ltorg\n");
}

__attribute__((used)) void emulated_fault_told(const uint32_t *frame) {
  const uint32_t block[2] = {APPLICATION_EXIT, FAULT_EXIT};
  const int inside = frame >= emulated_stack_bottom && frame + 8 <= emulated_stack_top;
  emulated_write("\n#fault ");
  write_unsigned(inside ? frame[6] : 0, 16);
  emulated_write(" ");
  write_unsigned(CFSR, 16);
  emulated_write(" ");
  write_unsigned(CFSR & MMFAR_VALID ? MMFAR : BFAR, 16);
  emulated_write(inside ? " \n" : " stack\n");
  semihost(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

/* Bytes from base, 2 to the power of log2, allow no access (0) or reading alone (6). */
static void protect(uint32_t region, uint32_t base, uint32_t log2, uint32_t allowed) {
  MPU_BASE = base | 1u << 4 | region;
  MPU_ATTRIBUTES = allowed << 24 | (log2 - 1) << 1 | 1;
}

__attribute__((used)) void emulated_reset(void) {
  const uint32_t *source = emulated_data_source;
  for (uint32_t *word = emulated_data_begin; word < emulated_data_end; ++word) *word = *source++;
  for (uint32_t *word = emulated_bss_begin; word < emulated_bss_end; ++word) *word = 0;
#ifdef __ARM_FP
  CPACR |= 0xFu << 20;
  __asm__ volatile("dsb\nisb");
#endif
  SHCSR |= 7u << 16; /* memory, bus and usage faults of their own */
  /* Where the board has nothing QEMU takes writes in silence. */
  protect(0, 0x00000000, 22, 6);
  protect(1, 0x10000000, 28, 0);
  protect(2, 0x20400000, 22, 0);
  MPU_CONTROL = 5; /* all else as without regions */
  __asm__ volatile("dsb\nisb");
  TIMER_RELOAD = 0xFFFFFFFFu;
  TIMER_VALUE = 0xFFFFFFFFu;
  TIMER_CONTROL = 1;
  paint();
  overhead = instructions_of(emulated_ticks(nothing)) - 1; /* its return is an instruction */
  emulated_exit(main());
}

/* What a program on the emulated board can ask for; see benchmarks/emulated/__init__.py. */
#ifndef EMULATED_H
#define EMULATED_H

#include <stdint.h>

/* Text to the host, without printf and its kilobytes. */
void emulated_write(const char *text);
void emulated_write_number(int32_t value);

/* Calls run and tells the host, under the name, its instructions from its first to its return and the bytes of
   stack below its call. Sections follow each other; one within another would erase what the outer one has used.
   At most 1.3e9 instructions. */
void emulated_measure(const char *name, void (*run)(void));

/* The board's clock, and the instructions between two readings of it, those of a reading included. */
uint32_t emulated_clock(void);
uint32_t emulated_instructions(uint32_t earlier, uint32_t later);

/* Ends the program; so does main's return. */
void emulated_exit(int code) __attribute__((noreturn));

#endif

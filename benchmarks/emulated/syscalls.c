/* What newlib's printf and malloc need of a system. The linker drops it where nobody calls them. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "emulated.h"

int _write(int file, const char *text, int length);
int _read(int file, char *text, int length);
int _close(int file);
int _fstat(int file, struct stat *status);
int _isatty(int file);
int _lseek(int file, int offset, int whence);
void *_sbrk(ptrdiff_t bytes);
void _exit(int code);
int _kill(int process, int signal);
int _getpid(void);

int _write(int file, const char *text, int length) {
  char part[65];
  (void)file;
  for (int at = 0; at < length;) {
    int count = 0;
    while (count < 64 && at < length) part[count++] = text[at++];
    part[count] = 0;
    emulated_write(part);
  }
  return length;
}

int _read(int file, char *text, int length) { return (void)file, (void)text, (void)length, 0; }
int _close(int file) { return (void)file, -1; }
int _isatty(int file) { return (void)file, 1; }
int _lseek(int file, int offset, int whence) { return (void)file, (void)offset, (void)whence, 0; }

int _fstat(int file, struct stat *status) {
  (void)file;
  status->st_mode = S_IFCHR;
  return 0;
}

void *_sbrk(ptrdiff_t bytes) {
  extern char emulated_heap_begin[], emulated_heap_end[];
  static char *end = emulated_heap_begin;
  if (bytes > emulated_heap_end - end) {
    errno = ENOMEM;
    return (void *)-1;
  }
  end += bytes;
  return end - bytes;
}

void _exit(int code) { emulated_exit(code); }
int _getpid(void) { return 1; }
int _kill(int process, int signal) { return (void)process, (void)signal, -1; }

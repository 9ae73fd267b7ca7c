// Prints a line and switches the machine off.
#include "runtime.h"
  .globl _start
_start:
  call guest_init
  PRINT "hello from a tiny guest\n"
  jmp power_off

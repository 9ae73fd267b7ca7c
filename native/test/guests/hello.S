// Prints a line and switches the machine off.
#include "runtime.inc"
  .globl _start
_start:
  START
  PRINT "hello from a tiny guest\n"
  jmp power_off

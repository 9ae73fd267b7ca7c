// An exception without any table to deliver it.
#include "runtime.h"
  .globl _start
_start:
  call guest_init
  PRINT "about to fault thrice\n"
  lidt nothing(%rip)
  ud2

  .data
nothing:
  .word 0
  .quad 0

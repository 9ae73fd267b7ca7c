// An exception without any table to deliver it.
#include "runtime.inc"
  .globl _start
_start:
  START
  PRINT "about to fault thrice\n"
  lidt nothing(%rip)
  ud2

  .data
nothing:
  .word 0
  .quad 0

// Prints the time stamp counter and the clock chip's seconds again and again, with some work in
// between, and stops for ever with interrupts off.
#include "runtime.inc"
  .globl _start
_start:
  START
  mov $20, %r15d
again:
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  call put_hex
  mov $' ', %al
  call put_char
  OUT_BYTE 0x70, 0x00
  mov $0x71, %edx
  xor %eax, %eax
  in %dx, %al
  call put_hex
  call put_line
  mov $100000, %ecx
1:
  dec %ecx
  jnz 1b
  dec %r15d
  jnz again
  PRINT "halted\n"
  cli
  hlt
  PRINT "a halt with interrupts off came back\n"
  jmp power_off

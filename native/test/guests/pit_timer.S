// Sleeps through 50 timer interrupts of the PIT at 1 kHz and says so after each ten.
#include "runtime.inc"
  .globl _start
_start:
  START
  call pic_init
  GATE IRQ_BASE, tick
  OUT_BYTE 0x43, 0x34
  OUT_BYTE 0x40, 0xa9  // 1193 ticks
  OUT_BYTE 0x40, 0x04
  OUT_BYTE 0x21, 0xfe
  xor %r15d, %r15d
wait:
  sti
  hlt
  cmp %r15, %r14
  je wait
  mov %r15, %r14
  mov %r15, %rax
  xor %edx, %edx
  mov $10, %ecx
  div %rcx
  test %edx, %edx
  jnz wait
  PRINT "ticks "
  mov %r15, %rax
  call put_decimal
  call put_line
  cmp $50, %r15
  jb wait
  jmp power_off

tick:
  inc %r15
  push %rax
  push %rdx
  OUT_BYTE 0x20, 0x20
  pop %rdx
  pop %rax
  iretq

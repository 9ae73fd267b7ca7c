// User code that never calls the kernel is interrupted by the PIT until the kernel has seen 20
// ticks. Its loop count depends on when the interrupts come: a replay must find the same.
#include "runtime.inc"
  .globl _start
_start:
  START
  call make_all_user
  call pic_init
  GATE IRQ_BASE, tick
  OUT_BYTE 0x43, 0x34
  OUT_BYTE 0x40, 0xa9
  OUT_BYTE 0x40, 0x04
  OUT_BYTE 0x21, 0xfe
  xor %r15d, %r15d
  push $USER_DATA
  push $0
  push $0x202
  push $USER_CODE
  lea spin(%rip), %rax
  push %rax
  xor %ebx, %ebx
  iretq

spin:
  inc %rbx
  jmp spin

tick:
  inc %r15
  OUT_BYTE 0x20, 0x20
  PRINT "tick "
  mov %r15, %rax
  call put_decimal
  PRINT " loops "
  mov %rbx, %rax
  call put_hex
  call put_line
  cmp $20, %r15
  je power_off
  iretq

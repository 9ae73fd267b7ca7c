// The local APIC's timer in all three modes, and an interrupt that the CPU sends itself.
#include "runtime.inc"
  .globl _start
  .equ APIC, 0xfee00000

.macro WAIT_UNTIL count
9993:
  sti
  hlt
  cli
  cmp $\count, %r15
  jb 9993b
.endm

_start:
  START
  GATE 0x60, tick
  GATE 0x61, itself
  mov $APIC, %ebx
  movl $0x10000, 0x350(%rbx)
  movl $0x1ff, 0xf0(%rbx)
  xor %r15d, %r15d
  PRINT "self "
  movl $0x40061, 0x300(%rbx)
  sti
  nop
  nop
  cli
  PRINT "one-shot "
  movl $0x0b, 0x3e0(%rbx)
  movl $0x60, 0x320(%rbx)
  movl $25000, 0x380(%rbx)
  WAIT_UNTIL 1
  PRINT "periodic "
  movl $0x20060, 0x320(%rbx)
  movl $25000, 0x380(%rbx)
  WAIT_UNTIL 6
  movl $0, 0x380(%rbx)
  PRINT "deadline "
  movl $0x40060, 0x320(%rbx)
  mov $5, %ebp
1:
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  add $1000000, %rax
  mov %rax, %rdx
  shr $32, %rdx
  mov $0x6e0, %ecx
  wrmsr
  lea 1(%r15), %r14
2:
  sti
  hlt
  cli
  cmp %r14, %r15
  jb 2b
  dec %ebp
  jnz 1b
  mov %r15, %rax
  call put_decimal
  call put_line
  jmp power_off

tick:
  inc %r15
  movl $0, 0xb0(%rbx)
  iretq

itself:
  PRINT "got it, "
  movl $0, 0xb0(%rbx)
  iretq

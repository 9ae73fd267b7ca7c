// User code that never calls the kernel: it walks through 16 pages of its own and changes every
// word by what it computes, with SSE among it, until the kernel has seen 12 ticks of the PIT. What
// the kernel prints depends on the memory at each tick.
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
  ENTER_USER walk, user_stack_top

walk:
  mov $1, %ebx
  cvtsi2sd %ebx, %xmm0
  movsd %xmm0, %xmm1
1:
  lea table(%rip), %rsi
  mov $16 * 512, %ecx
2:
  imul $0x5bd1e995, %rbx, %rbx
  inc %rbx
  xor %rbx, (%rsi)
  addsd %xmm1, %xmm0
  sqrtsd %xmm0, %xmm2
  mulsd %xmm2, %xmm2
  movq %xmm2, %rax
  add %rax, %rbx
  push %rbx
  add $8, %rsi
  pop %rdx
  dec %ecx
  jnz 2b
  jmp 1b

tick:
  push %rax
  push %rcx
  push %rdx
  push %rsi
  inc %r15
  OUT_BYTE 0x20, 0x20
  PRINT "tick "
  mov %r15, %rax
  call put_decimal
  PRINT " sum "
  lea table(%rip), %rsi
  mov $16 * 512, %ecx
  xor %eax, %eax
1:
  rol $1, %rax
  add (%rsi), %rax
  add $8, %rsi
  dec %ecx
  jnz 1b
  call put_hex
  call put_line
  cmp $12, %r15
  je power_off
  pop %rsi
  pop %rdx
  pop %rcx
  pop %rax
  iretq

  .bss
  .balign 4096
table:
  .skip 16 * 4096
  .skip 4096
user_stack_top:

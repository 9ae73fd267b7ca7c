// Runs whatever the test puts at `random_code`: each exception or interrupt goes on with the next 16
// bytes of it, so a fault ends only a piece. At the end it switches off, unless the random code has
// found another end.
#include "runtime.inc"
  .globl _start, random_code
_start:
  START
  call make_all_user
  call pic_init
  OUT_BYTE 0x21, 0x00
  OUT_BYTE 0xa1, 0x00
  xor %ebp, %ebp
1:
  mov %ebp, %edi
  lea go_on(%rip), %rsi
  mov $GATE_USER, %edx
  call set_gate
  inc %ebp
  cmp $256, %ebp
  jne 1b
go_on:
  mov next(%rip), %rax
  add $16, %rax
  mov %rax, next(%rip)
  lea random_code_end(%rip), %rbx
  cmp %rbx, %rax
  jae power_off
  lea kernel_stack_top - 2048(%rip), %rsp
  OUT_BYTE 0x20, 0x20
  lea data(%rip), %rbx
  mov next(%rip), %rax
  mov %rbx, %rcx
  mov %rbx, %rsi
  mov %rbx, %rdi
  mov %rbx, %rbp
  jmp *%rax

  .data
next:
  .quad random_code - 16
  .balign 4096
random_code:
  .ascii "random code here"
  .fill 4080, 1, 0x90
random_code_end:
  .bss
  .balign 4096
data:
  .skip 65536

// A user program that computes and asks the kernel for the next number 300 times by SYSCALL and INT
// 0x80 in turn, then touches a page that is not its own. The kernel prints the sum.
#include "runtime.inc"
  .globl _start
_start:
  START
  call make_all_user
  GATE 0x80, by_interrupt, GATE_USER
  GATE 14, page_fault
  SYSCALL_TO by_syscall
  xor %r15d, %r15d
  ENTER_USER user, user_stack_top

by_syscall:  // rdi in, rax out; the user stack stays
  inc %r15
  lea 1(%rdi, %rdi, 2), %rax
  sysretq

by_interrupt:
  inc %r15
  lea 7(%rdi, %rdi, 4), %rax
  iretq

page_fault:
  PRINT "user page fault, error "
  pop %rax
  call put_hex
  PRINT "\nsum "
  mov %rbx, %rax
  call put_hex
  PRINT "\ncalls "
  mov %r15, %rax
  call put_decimal
  call put_line
  jmp power_off

user:
  xor %ebx, %ebx
  mov $150, %ebp
1:
  mov $500, %esi
2:
  imul $0x5bd1e995, %rbx, %rbx
  lea 12345(%rbx, %rsi), %rbx
  rol $13, %rbx
  dec %esi
  jnz 2b
  mov %rbx, %rdi
  syscall
  xor %rax, %rbx
  mov %rbx, %rdi
  int $0x80
  add %rax, %rbx
  push %rbx
  addq $3, (%rsp)
  pop %rbx
  dec %ebp
  jnz 1b
  movabs $0x7fff12345000, %rax
  mov %rbx, (%rax)
  ud2

  .bss
  .skip 4096
user_stack_top:

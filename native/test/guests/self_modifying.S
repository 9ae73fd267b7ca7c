// Code that rewrites itself: an immediate of a loop body, an instruction right behind the store, a
// routine copied over another one, and one through a second mapping of its page.
#include "runtime.inc"
  .globl _start
_start:
  START
  mov $10, %ebp
  xor %ebx, %ebx
again:
  mov %ebp, patched + 1(%rip)
patched:
  mov $0, %eax
  add %rax, %rbx
  dec %ebp
  jnz again
  PRINT "sum "
  mov %rbx, %rax
  call put_decimal
  call put_line

  call answer
  call put_decimal
  call put_line
  lea other(%rip), %rsi
  lea answer(%rip), %rdi
  mov $(other_end - other), %ecx
  rep movsb
  call answer
  call put_decimal
  call put_line

  // The same page again at 1 GiB and up: the second directory entry points to the first table.
  mov %cr3, %rax
  mov (%rax), %rax
  and $~0xfff, %rax
  mov (%rax), %rbx
  mov %rbx, 8(%rax)
  mov %cr3, %rbx
  mov %rbx, %cr3
  lea answer(%rip), %rax
  movl $7777, 0x40000001(%rax)
  call answer
  call put_decimal
  call put_line
  jmp power_off

answer:
  mov $1111, %eax
  ret
other:
  mov $2222, %eax
  ret
other_end:

// One page of user memory at two addresses: code that is written through one and runs at the other,
// while it runs too, and data read through one and written through the other.
#define BEFORE_USER_MODE call map_other
#include "user_mode.inc"

#define OTHER_VA 0x40000000  // the second GiB

  USER_MODE_KERNEL

// The second GiB: a directory and a table of its own.
map_other:
  mov %cr3, %rax
  mov (%rax), %rax
  and $~0xfff, %rax
  lea directory(%rip), %rcx
  or $7, %rcx
  mov %rcx, 8(%rax)
  lea table(%rip), %rcx
  or $7, %rcx
  mov %rcx, directory(%rip)
  lea shared(%rip), %rcx
  or $7, %rcx
  mov %rcx, table(%rip)
  mov %cr3, %rax
  mov %rax, %cr3
  ret

  .bss
  .balign 4096
directory:
  .skip 4096
table:
  .skip 4096
  .text

  .balign 4096
user:
  call code_twice
  call code_under_way
  call data_twice
  END_GUEST

// f(): returns its number; the number is changed through the other address.
code_twice:
  mov $8, %r12d
1:
  call template
  SAY "returned "
  SAY_RAX
  mov $OTHER_VA, %edi
  add $template_number - shared, %edi
  mov %r12d, (%rdi)
  BURN
  dec %r12d
  jnz 1b
  ret

// A loop whose own constant it rewrites through the other address on each round.
code_under_way:
  xor %eax, %eax
  call rewriting
  SAY "under way "
  SAY_RAX
  ret

data_twice:
  mov $OTHER_VA, %edi
  add $counter - shared, %edi
  lea counter(%rip), %rsi
  mov $2000, %ecx
1:
  incq (%rdi)
  mov (%rsi), %rax
  add %rax, 8(%rsi)
  dec %ecx
  jnz 1b
  mov 8(%rdi), %rax
  SAY "data "
  SAY_RAX
  ret

  .balign 4096
shared:
template:
  .byte 0xb8  // MOV EAX
template_number:
  .long 99
  ret
  .balign 64
rewriting:
  mov $OTHER_VA, %edi
  add $number - shared, %edi
  mov $300, %ecx
1:
  .byte 0xba  // MOV EDX
number:
  .long 7
  add %rdx, %rax
  rol $3, %rax
  lea (%rdx, %rcx), %edx
  mov %edx, (%rdi)
  dec %ecx
  jnz 1b
  ret
  .balign 64
counter:
  .quad 0, 0
  .balign 4096

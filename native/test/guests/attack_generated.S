// Each attack written at run time into a page that is writable and executable, over the one before,
// and run there: alone, and behind a loop that ran with harmless instructions in its place.
#include "user_mode.inc"
#include "attacks.inc"
  USER_MODE_KERNEL
  SCRATCH

.macro ATTACK name, bytes:vararg
  .pushsection .rodata
8880:
  .byte \bytes
8881:
  .popsection
  SAY "\name "
  lea 8880b(%rip), %rsi
  mov $8881b - 8880b, %r13d
  call run_generated
.endm

  .balign 4096
user:
  ALL_ATTACKS
  END_GUEST

// RSI: the bytes; R13: how many.
run_generated:
  lea generated(%rip), %rbp
  call generate
  SET_UP
  ON_FAULT 3f
  call *%rbp
  FOLD
  SAY_RAX
  jmp 4f
3:
  add $8, %rsp  // the call's return address
4:
  SAY "  behind a loop "
  lea generated + 2048(%rip), %rbp
  push %rsi
  push %r13
  lea nops(%rip), %rsi
  mov $4, %r13d
  call generate_loop
  call *%rbp
  pop %r13
  pop %rsi
  call generate_loop
  SET_UP
  ON_FAULT 5f
  call *%rbp
  FOLD
  SAY_RAX
  ret
5:
  add $8, %rsp
  ret

// A loop, the bytes and RET at RBP.
generate_loop:
  push %rsi
  push %r13
  lea loop_code(%rip), %rsi
  mov $loop_code_end - loop_code, %r13d
  call generate
  pop %r13
  pop %rsi
  push %rbp
  add $loop_code_end - loop_code, %rbp
  call generate
  pop %rbp
  ret
loop_code:
  push %rax
  push %rcx
  mov $BURN_ROUNDS, %ecx
1:
  dec %ecx
  jnz 1b
  pop %rcx
  pop %rax
loop_code_end:
nops:
  nop
  nop
  nop
  nop

// The bytes and RET at RBP.
generate:
  push %rcx
  push %rdi
  push %rsi
  mov %r13d, %ecx
  mov %rbp, %rdi
  rep movsb
  movb $0xc3, (%rdi)
  pop %rsi
  pop %rdi
  pop %rcx
  ret

  .bss
  .balign 4096
generated:
  .skip 4096
  .text

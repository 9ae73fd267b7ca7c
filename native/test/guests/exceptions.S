// Raises exceptions one after the other; each handler prints what it was given. What must hold: the
// faulting address, the error code, CR2, and that execution goes on where the handler says.
#include "runtime.inc"
  .globl _start

// Prints the name, error code and distance of RIP from the marker, goes on at `recover`.
.macro HANDLER label, text, has_error
\label:
  PRINT "\text"
  .if \has_error
  pop %rax
  call put_hex
  .endif
  PRINT " at +"
  pop %rax
  sub %r12, %rax
  call put_decimal
  PRINT " cr2 "
  mov %cr2, %rax
  call put_hex
  call put_line
  mov 16(%rsp), %rsp
  jmp *%r13
.endm

.macro PROVOKE
  lea 9992f(%rip), %r13
  lea 9991f(%rip), %r12
9991:
.endm
.macro RECOVER
9992:
.endm

_start:
  START
  GATE 0, divide
  GATE 3, breakpoint
  GATE 6, undefined
  GATE 11, not_present
  GATE 13, protection
  GATE 14, page
  PROVOKE
  xor %ecx, %ecx
  mov $7, %eax
  div %ecx
  RECOVER
  PROVOKE
  int3
  RECOVER
  PROVOKE
  ud2
  RECOVER
  PROVOKE
  movabs $0x1234567890, %rax
  mov (%rax), %rbx
  RECOVER
  PROVOKE
  movabs $0xffff800000000008, %rax
  movq $1, (%rax)
  RECOVER
  PROVOKE
  movabs $0x0000900000000000, %rax  // not canonical
  mov (%rax), %rbx
  RECOVER
  PROVOKE
  mov $0x40, %ax
  mov %ax, %ds  // beyond the GDT
  RECOVER
  // A push whose operand faults leaves RSP alone.
  mov %rsp, %rbp
  PROVOKE
  movabs $0x200000000, %rbx
  push (%rbx)
  RECOVER
  cmp %rsp, %rbp
  jne power_off
  PRINT "all done\n"
  jmp power_off

HANDLER divide, "#DE", 0
HANDLER breakpoint, "#BP", 0
HANDLER undefined, "#UD", 0
HANDLER not_present, "#NP ", 1
HANDLER protection, "#GP ", 1
HANDLER page, "#PF ", 1

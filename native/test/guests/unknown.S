// What the machine does not have: unknown MSRs fault, unknown ports and addresses read as all ones.
// Ends by the keyboard controller's reset.
#include "runtime.inc"
  .globl _start
_start:
  START
  GATE 13, protection
  mov $0xdead, %ecx
  lea 1f(%rip), %r13
  rdmsr
1:
  mov $0xdead, %ecx
  lea 1f(%rip), %r13
  wrmsr
1:
  mov $0x1234, %edx
  in %dx, %eax
  call put_hex
  call put_line
  mov $0x5678, %ax
  out %ax, %dx
  mov $0xfd000000, %ebx
  mov (%rbx), %rax
  call put_hex
  call put_line
  movq $1, (%rbx)
  mov $0x40000000, %eax
  cpuid
  mov %ebx, %eax
  call put_hex
  call put_line
  OUT_BYTE 0x64, 0xfe
  PRINT "a reset came back\n"
  jmp power_off

protection:
  PRINT "#GP "
  pop %rax
  call put_hex
  call put_line
  mov %r13, (%rsp)
  iretq

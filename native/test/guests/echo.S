// Echoes what is typed, by interrupt; says how much it was and ends at "q".
#include "runtime.inc"
  .globl _start
_start:
  START
  call pic_init
  GATE IRQ_BASE + 4, received
  OUT_BYTE 0x21, 0xef
  OUT_BYTE COM1 + 1, 0x01
  xor %r15d, %r15d
  xor %r14d, %r14d
  PRINT "type\n"
wait:
  cli
  test %r14d, %r14d
  jnz quit
  sti
  hlt
  jmp wait
quit:
  PRINT "\nbye after "
  mov %r15, %rax
  call put_decimal
  call put_line
  jmp power_off

received:
  push %rax
  push %rdx
1:
  mov $COM1 + 5, %edx
  in %dx, %al
  test $1, %al
  jz 2f
  mov $COM1, %edx
  in %dx, %al
  inc %r15
  out %al, %dx
  cmp $'q', %al
  jne 1b
  mov $1, %r14d
  jmp 1b
2:
  OUT_BYTE 0x20, 0x20
  pop %rdx
  pop %rax
  iretq

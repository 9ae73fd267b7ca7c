// Prints a numbered line each 100 ms, and a numbered line for each byte typed; ends at "q". Sleeps in
// between: what an end-to-end test needs of a guest, without the seconds that a kernel takes to boot.
#include "runtime.inc"
  .globl _start
  .equ APIC, 0xfee00000
  // The timer counts at 25 MHz when it divides by one.
  .equ TICK_COUNT, 2500000

_start:
  START
  call pic_init
  GATE IRQ_BASE + 4, received
  GATE 0x60, tick
  OUT_BYTE 0x21, 0xef
  OUT_BYTE COM1 + 4, 0x0b
  OUT_BYTE COM1 + 1, 0x01
  mov $APIC, %ebx
  movl $0x700, 0x350(%rbx)  // the 8259s reach the CPU through the local APIC
  movl $0x1ff, 0xf0(%rbx)
  xor %r12d, %r12d  // ticks printed
  xor %r13d, %r13d  // ticks due
  xor %r14d, %r14d  // bytes taken from the ring
  xor %r15d, %r15d  // bytes put into the ring
  xor %ebp, %ebp    // 1 when "q" was typed
  PRINT "ticker\n"
  movl $0x0b, 0x3e0(%rbx)
  movl $0x20060, 0x320(%rbx)
  movl $TICK_COUNT, 0x380(%rbx)
wait:
  cli
  cmp %r12, %r13
  ja print_tick
  cmp %r14, %r15
  ja print_key
  test %ebp, %ebp
  jnz power_off
  sti
  hlt
  jmp wait

print_tick:
  inc %r12
  PRINT "tick "
  mov %r12, %rax
  call put_decimal
  call put_line
  jmp wait

print_key:
  mov %r14, %rax
  and $0xfff, %eax
  lea ring(%rip), %rcx
  movzbl (%rcx,%rax), %ecx
  inc %r14
  cmp $'q', %cl
  jne 1f
  mov $1, %ebp
1:
  lea key(%rip), %rsi
  mov %cl, (%rsi)
  PRINT "key "
  lea key(%rip), %rsi
  call put_string
  PRINT " "
  mov %r14, %rax
  call put_decimal
  call put_line
  jmp wait

tick:
  inc %r13
  movl $0, 0xb0(%rbx)
  iretq

received:
  push %rax
  push %rcx
  push %rdx
1:
  mov $COM1 + 5, %edx
  in %dx, %al
  test $1, %al
  jz 2f
  mov $COM1, %edx
  in %dx, %al
  mov %r15, %rcx
  and $0xfff, %ecx
  lea ring(%rip), %rdx
  mov %al, (%rdx,%rcx)
  inc %r15
  jmp 1b
2:
  OUT_BYTE 0x20, 0x20
  pop %rdx
  pop %rcx
  pop %rax
  iretq

  .bss
ring: .skip 4096
key: .skip 2

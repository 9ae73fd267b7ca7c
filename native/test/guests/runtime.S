// The runtime of tiny guests: serial output, descriptor tables, gates, the 8259s, power-off.
#include "runtime.inc"

  .text
  .globl guest_init, put_char, put_string, put_hex, put_decimal, put_line, power_off
  .globl set_gate, pic_init, make_all_user, tss, kernel_stack_top

// Stack, GDT with user segments and a TSS, IDT with a reporting handler everywhere, UART.
guest_init:
  lea tss(%rip), %rax
  lea gdt(%rip), %rdi
  mov %ax, TSS_SELECTOR + 2(%rdi)
  shr $16, %rax
  mov %al, TSS_SELECTOR + 4(%rdi)
  mov %ah, TSS_SELECTOR + 7(%rdi)
  lea tss(%rip), %rax
  lea kernel_stack_top(%rip), %rcx
  mov %rcx, 4(%rax)
  lgdt gdt_pointer(%rip)
  mov $TSS_SELECTOR, %ax
  ltr %ax
  xor %ebp, %ebp
1:
  mov %ebp, %edi
  lea unexpected(%rip), %rsi
  mov $GATE_KERNEL, %edx
  call set_gate
  inc %ebp
  cmp $256, %ebp
  jne 1b
  lidt idt_pointer(%rip)
  OUT_BYTE COM1 + 3, 0x03
  OUT_BYTE COM1 + 2, 0x07
  OUT_BYTE COM1 + 4, 0x0b
  ret

// edi = vector, rsi = handler, edx = type byte
set_gate:
  shl $4, %edi
  lea idt(%rip), %rax
  add %rax, %rdi
  mov %si, (%rdi)
  movw $KERNEL_CODE, 2(%rdi)
  movb $0, 4(%rdi)
  mov %dl, 5(%rdi)
  shr $16, %rsi
  mov %si, 6(%rdi)
  movq $0, 8(%rdi)
  ret

put_char:  // al
  push %rdx
  mov $COM1, %edx
  out %al, %dx
  pop %rdx
  ret

put_string:  // rsi
  push %rax
1:
  lodsb
  test %al, %al
  jz 2f
  call put_char
  jmp 1b
2:
  pop %rax
  ret

put_line:
  push %rax
  mov $'\n', %al
  call put_char
  pop %rax
  ret

put_hex:  // rax, 16 digits
  push %rax
  push %rcx
  push %rdx
  mov %rax, %rdx
  mov $16, %ecx
1:
  rol $4, %rdx
  mov %dl, %al
  and $15, %al
  add $'0', %al
  cmp $'9', %al
  jbe 2f
  add $'a' - '9' - 1, %al
2:
  call put_char
  dec %ecx
  jnz 1b
  pop %rdx
  pop %rcx
  pop %rax
  ret

put_decimal:  // rax
  push %rax
  push %rbx
  push %rcx
  push %rdx
  mov $10, %ebx
  xor %ecx, %ecx
1:
  xor %edx, %edx
  div %rbx
  push %rdx
  inc %ecx
  test %rax, %rax
  jnz 1b
2:
  pop %rax
  add $'0', %al
  call put_char
  dec %ecx
  jnz 2b
  pop %rdx
  pop %rcx
  pop %rbx
  pop %rax
  ret

// ACPI soft-off.
power_off:
  mov $0x604, %edx
  mov $(5 << 10 | 1 << 13), %eax
  out %ax, %dx
1:
  hlt
  jmp 1b

// Both 8259s at IRQ_BASE, everything masked; the local APIC lets them through.
pic_init:
  OUT_BYTE 0x20, 0x11
  OUT_BYTE 0x21, IRQ_BASE
  OUT_BYTE 0x21, 0x04
  OUT_BYTE 0x21, 0x01
  OUT_BYTE 0xa0, 0x11
  OUT_BYTE 0xa1, IRQ_BASE + 8
  OUT_BYTE 0xa1, 0x02
  OUT_BYTE 0xa1, 0x01
  OUT_BYTE 0x21, 0xff
  OUT_BYTE 0xa1, 0xff
  ret

// Lets user mode use the first GiB: the user bit in every entry that maps it. The rest is as Linux
// has it, which engines that run user code directly may rely on: WP, MP, SSE, SYSCALL, NX.
make_all_user:
  mov $0xc0000080, %ecx
  rdmsr
  or $0x801, %eax
  wrmsr
  mov %cr4, %rax
  or $0x600, %rax
  mov %rax, %cr4
  mov %cr0, %rax
  or $0x10002, %rax
  mov %rax, %cr0
  mov %cr3, %rax
  orq $4, (%rax)
  mov (%rax), %rax
  and $~0xfff, %rax
  orq $4, (%rax)
  mov (%rax), %rax
  and $~0xfff, %rax
  mov $512, %ecx
1:
  orq $4, (%rax)
  add $8, %rax
  dec %ecx
  jnz 1b
  ret

unexpected:
  PRINT "unexpected interrupt, stack: "
  mov (%rsp), %rax
  call put_hex
  mov $' ', %al
  call put_char
  mov 8(%rsp), %rax
  call put_hex
  call put_line
  jmp power_off

  .data
  .balign 16
gdt:
  .quad 0, 0
  .quad 0x00af9b000000ffff  // KERNEL_CODE
  .quad 0x00cf93000000ffff  // KERNEL_DATA
  .quad 0x00cffb000000ffff  // USER_CODE_32
  .quad 0x00cff3000000ffff  // USER_DATA
  .quad 0x00affb000000ffff  // USER_CODE
  .quad 0
  .quad 0x0000890000000067, 0  // TSS_SELECTOR
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt
idt_pointer:
  .word 256 * 16 - 1
  .quad idt

  .bss
  .balign 4096
idt:
  .skip 4096
tss:
  .skip 104
  .balign 16
  .skip 16384
kernel_stack_top:

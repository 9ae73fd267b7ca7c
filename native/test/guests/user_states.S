// What user code can do with its own state: flags that trap, addresses that are not its own, bases,
// floating point across switches, and code of 32 bits. Each is said with what came of it.
#include "user_mode.inc"

  USER_MODE_KERNEL

.macro set_ac
  pushf
  orl $0x40000, (%rsp)
  popf
.endm
.macro clear_ac
  pushf
  andl $~0x40000, (%rsp)
  popf
.endm

  .balign 4096
user:
  BURN
  call alignment_checks
  call single_step
  call bad_addresses
  call low_memory
  call flags_at_syscall
  call floating_point
  call divisions
  call narrow_code
  END_GUEST

.macro FAULTING text, code
  SAY "\text "
  BURN
  ON_FAULT 7771f
  \code
  SAY "went through "
  SAY_RAX
7771:
.endm

// EFLAGS.AC: misaligned accesses fault, aligned ones do not.
alignment_checks:
  lea words(%rip), %rbx
  FAULTING "aligned", "set_ac; mov (%rbx), %rax; clear_ac"
  FAULTING "misaligned load", "set_ac; mov 1(%rbx), %eax"
  FAULTING "misaligned store", "set_ac; mov %ax, 1(%rbx)"
  FAULTING "misaligned without", "mov 1(%rbx), %eax"
  ret

// TF: the trap comes behind the next instruction.
single_step:
  SAY "single step "
  BURN
  ON_FAULT 1f
  xor %eax, %eax
  pushf
  orl $0x100, (%rsp)
  popf
  inc %eax
  inc %eax
  inc %eax
1:
  SAY_RAX
  SAY "icebp "
  ON_FAULT 2f
  .byte 0xf1
2:
  ret

bad_addresses:
  mov $0xffffffff81000000, %rbx
  FAULTING "kernel half", "mov (%rbx), %rax"
  movabs $0x800000000000, %rbx
  FAULTING "not canonical", "mov (%rbx), %rax"
  FAULTING "stack not canonical", "mov %rsp, %r13; mov %rbx, %rsp; push %rax"
  mov %r13, %rsp
  movabs $0x7ffffffff000, %rbx
  FAULTING "top of the lower half", "mov %rax, (%rbx)"
  FAULTING "jump to the kernel half", "mov $0xffffffff81000000, %rbx; jmp *%rbx"
  FAULTING "jump not canonical", "movabs $0x800000000000, %rbx; jmp *%rbx"
  ret

// The first 64 KiB, where a monitor may keep pages of its own: mapped here, and all zero.
low_memory:
  SAY "low memory "
  BURN
  ON_FAULT 2f
  xor %eax, %eax
  xor %ebx, %ebx
1:
  add (%rbx), %rax
  rol $1, %rax
  add $8, %rbx
  cmp $0x10000, %ebx
  jne 1b
  SAY_RAX
2:
  // Written and read back; it is the guest's own.
  SAY "written "
  ON_FAULT 3f
  mov $0x2000, %ebx
  movl $0x1234, (%rbx)
  BURN
  mov (%rbx), %eax
  SAY_RAX
3:
  // A jump there: code that was put there runs.
  SAY "code there "
  ON_FAULT 4f
  mov $0x3000, %ebx
  movl $0x90c3c0ff, (%rbx)  // inc %eax; ret
  mov $41, %eax
  call *%rbx
  SAY_RAX
4:
  ret

// R11 is what the flags were; what the architecture leaves undefined must be nobody's business.
flags_at_syscall:
  BURN
  mov $0x12345, %eax
  mov $0x777, %ebx
  stc
  mul %ebx
  syscall
  mov %r11, %rax
  SAY "after mul "
  SAY_RAX
  BURN
  mov $0x80000001, %eax
  mov $5, %ecx
  shl %cl, %eax
  syscall
  mov %r11, %rax
  SAY "after shl "
  SAY_RAX
  std
  syscall
  mov %r11, %rax
  cld
  SAY "after std "
  SAY_RAX
  ret

// x87, MMX and SSE state over services and faults.
floating_point:
  BURN
  fninit
  fldpi
  fldl2e
  fmulp
  mov $7, %eax
  cvtsi2sd %eax, %xmm3
  sqrtsd %xmm3, %xmm4
  SAY "x87 "
  ON_FAULT 1f
  ud2
1:
  sub $16, %rsp
  fstpt (%rsp)
  mov (%rsp), %rax
  SAY_RAX
  BURN
  movq %xmm4, %rax
  SAY "sse "
  SAY_RAX
  fnstsw %ax
  movzwl %ax, %eax
  SAY "status "
  SAY_RAX
  stmxcsr (%rsp)
  mov (%rsp), %eax
  SAY "mxcsr "
  SAY_RAX
  add $16, %rsp
  ret

divisions:
  FAULTING "by zero", "xor %ecx, %ecx; mov $5, %eax; xor %edx, %edx; div %ecx"
  FAULTING "too large", "mov $1, %ecx; mov $5, %eax; mov $1, %edx; div %ecx"
  FAULTING "by three", "mov $3, %ecx; mov $100, %eax; xor %edx, %edx; div %ecx"
  ret

// A far return into the 32-bit segment and back.
narrow_code:
  SAY "32 bits "
  ON_FAULT 2f
  mov %rsp, %r13
  push $USER_CODE_32
  lea narrow(%rip), %rax
  push %rax
  mov $1000, %ecx
  xor %eax, %eax
  lretq
  .code32
narrow:
  inc %eax  // one byte, that is a prefix in 64-bit code
  .byte 0x40
  dec %ecx
  jnz narrow
  ljmp $USER_CODE, $1f
  .code64
1:
  mov %r13, %rsp
  mov %eax, %eax
  SAY_RAX
2:
  mov %r13, %rsp
  ret

  .data
  .balign 64
words:
  .quad 0x1122334455667788, 0x99aabbccddeeff00
  .text

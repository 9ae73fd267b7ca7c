// Each attack hidden inside of another instruction: a MOV whose immediate holds it runs many times,
// then a direct jump leads into its middle. Only attacks that fit into the immediate.
#include "user_mode.inc"
#include "attacks.inc"
  USER_MODE_KERNEL
  SCRATCH

.macro ATTACK name, bytes:vararg
  .set attack_bytes, 0
  .irp one, \bytes
  .set attack_bytes, attack_bytes + 1
  .endr
  .if attack_bytes <= 8
  SAY "\name "
  call hidden_\name
  .pushsection .text.hidden, "ax"
  .balign 4096
hidden_\name:
  BURN
  mov $200, %r13d
2:
  ON_FAULT 5f
  dec %r13d
  js 6f
  jz 3f
  .byte 0x48, 0xbf  // MOV RDI of eight bytes: the attack and what fills it up
4:
  .byte \bytes
  .skip 8 - attack_bytes, 0x90
  jmp 2b
3:
  SET_UP
  jmp 4b
6:
  FOLD
  SAY_RAX
5:
  ret
  .popsection
  .endif
.endm

  .balign 4096
user:
  ALL_ATTACKS
  END_GUEST

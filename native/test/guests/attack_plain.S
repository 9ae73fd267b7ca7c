// Each attack as plain code, in a page that was run natively before and holds nothing else, three
// times over.
#include "user_mode.inc"
#include "attacks.inc"
  USER_MODE_KERNEL
  SCRATCH

.macro ATTACK name, bytes:vararg
  .balign 4096
attack_\name:
  SAY "\name "
  BURN
  mov $3, %r12d
1:
  SET_UP
  ON_FAULT 3f
  .byte \bytes
  FOLD
  SAY_RAX
  jmp 4f
3:
  BURN
4:
  dec %r12d
  jnz 1b
.endm

  .balign 4096
user:
  ALL_ATTACKS
  END_GUEST

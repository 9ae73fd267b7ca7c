// A place in a guest's execution that every engine and every copy agrees on.
//
// `steps` counts kernel-mode instructions retired plus deliveries of exceptions and interrupts. A
// stretch of user mode counts once: with the delivery (or SYSCALL) that ends it. `user_steps`
// counts the instructions retired inside the current user stretch, and is 0 in kernel mode.
// Every architectural state change advances one of the two, so a position names one state.
#pragma once

#include <compare>
#include <cstdint>

namespace node_mesh {

struct Position {
  std::uint64_t steps = 0;
  std::uint64_t user_steps = 0;

  friend auto operator<=>(const Position&, const Position&) = default;
};

}  // namespace node_mesh

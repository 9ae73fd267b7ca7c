// Runs cases on the host's CPU, in a forked process that holds nothing of value: registers are
// loaded by returning from a signal handler, and the next signal (a trap behind the instruction, or
// the fault that it raised) brings them back. Independent of everything under test.
#pragma once

#include <span>

#include "test/differential/case.h"

namespace node_mesh::differential {

inline constexpr std::size_t batch_cases = 128;

class NativeRunner {
 public:
  NativeRunner();
  ~NativeRunner();
  NativeRunner(const NativeRunner&) = delete;
  NativeRunner& operator=(const NativeRunner&) = delete;

  // The slots to fill before run() and to read after it.
  Case& input(std::size_t index);
  const Outcome& output(std::size_t index) const;

  // Runs the first `count` cases. A case that kills the sandbox ends with `did_not_end`.
  void run(std::size_t count);

 private:
  struct Shared;
  void start();
  void stop();
  Shared* shared_ = nullptr;
  int child_ = -1;
  int to_child_ = -1, from_child_ = -1;
};

}  // namespace node_mesh::differential

// Runs cases on the software CPU under test: a bare guest with page tables that show the same pages
// at the same linear addresses, and an interrupt table whose gates tell which exception came.
#pragma once

#include <memory>

#include "test/differential/case.h"

namespace node_mesh::differential {

class GuestRunner {
 public:
  GuestRunner();
  ~GuestRunner();
  void run(const Case& test, Outcome& outcome);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace node_mesh::differential

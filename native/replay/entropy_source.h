// Randomness for guests, by an interface so that recording can be tested. Only a recorder asks for
// it: what a guest got is in its log.
#pragma once

#include <cstddef>
#include <span>

namespace node_mesh {

class EntropySource {
 public:
  virtual ~EntropySource() = default;
  virtual void fill(std::span<std::byte> into) = 0;
};

// The host kernel's generator.
class HostEntropy final : public EntropySource {
 public:
  void fill(std::span<std::byte> into) override;
};

}  // namespace node_mesh

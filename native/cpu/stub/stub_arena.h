// Executable memory for generated code. A chunk is never writable and executable at once; private
// mappings only, so that a forked checkpoint writer and its parent cannot see each other's code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace node_mesh {

class StubArena {
 public:
  StubArena() = default;
  ~StubArena();
  StubArena(const StubArena&) = delete;
  StubArena& operator=(const StubArena&) = delete;

  // Copies `code` into executable memory. Throws std::bad_alloc when the host has no memory left.
  const void* add(std::span<const std::uint8_t> code);

  // Unmaps everything: all pointers from add() are dead.
  void clear();

 private:
  struct Chunk {
    std::byte* base;
    std::size_t used;
  };
  std::vector<Chunk> chunks_;
};

}  // namespace node_mesh

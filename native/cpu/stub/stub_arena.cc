#include "cpu/stub/stub_arena.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace node_mesh {
namespace {

constexpr std::size_t chunk_bytes = 64 * 1024;
constexpr std::size_t code_alignment = 32;

}  // namespace

StubArena::~StubArena() { clear(); }

const void* StubArena::add(std::span<const std::uint8_t> code) {
  if (code.size() > chunk_bytes) throw std::bad_alloc();
  if (chunks_.empty() || chunk_bytes - chunks_.back().used < code.size()) {
    chunks_.reserve(chunks_.size() + 1);
    void* base =
        mmap(nullptr, chunk_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    chunks_.push_back({static_cast<std::byte*>(base), 0});
  } else if (mprotect(chunks_.back().base, chunk_bytes, PROT_READ | PROT_WRITE) != 0) {
    throw std::bad_alloc();
  }
  Chunk& chunk = chunks_.back();
  std::byte* place = chunk.base + chunk.used;
  std::memcpy(place, code.data(), code.size());
  chunk.used += (code.size() + code_alignment - 1) / code_alignment * code_alignment;
  if (chunk.used > chunk_bytes) chunk.used = chunk_bytes;
  if (mprotect(chunk.base, chunk_bytes, PROT_READ | PROT_EXEC) != 0) throw std::bad_alloc();
  return place;
}

void StubArena::clear() {
  for (const Chunk& chunk : chunks_)
    munmap(chunk.base, chunk_bytes);
  chunks_.clear();
}

}  // namespace node_mesh

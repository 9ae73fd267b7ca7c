// The clusters that a running copy wrote, in a file without a name that vanishes with the process:
// they need not survive it, since a copy is built again from its checkpoint and the log. Slots are
// handed out, taken back and reused; a slot that a seal still reads is kept until that is over.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "replay/file.h"

namespace node_mesh {

class ScratchFile {
 public:
  // `directory` is tried first, then the usual places for temporary files, then memory.
  explicit ScratchFile(std::filesystem::path directory) : directory_(std::move(directory)) {}

  std::uint32_t allocate();
  void release(std::uint32_t slot) { free_.push_back(slot); }
  // `bytes` are whole clusters, for slots that follow each other.
  std::expected<void, std::string> write(std::uint32_t slot, std::span<const std::byte> bytes);
  // `offset` counts from the start of the slot; may run on into the slots behind it.
  std::expected<void, std::string> read(std::uint32_t slot, std::size_t offset,
                                        std::span<std::byte> into) const;
  std::uint64_t slots() const { return next_; }

 private:
  std::expected<void, std::string> open();
  std::filesystem::path directory_;
  FileDescriptor file_;
  std::vector<std::uint32_t> free_;
  std::uint32_t next_ = 0;
};

}  // namespace node_mesh

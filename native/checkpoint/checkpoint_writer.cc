#include "checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <set>

#include "machine/check.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

ChildReport* report_in(const Mapping& mapping) {
  return reinterpret_cast<ChildReport*>(mapping.bytes().data());
}

// Signals stay blocked in the child: what ends the parent ends it, and nothing else does.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

std::string CheckpointWriter::named(const std::string& why) const {
  return "Cannot checkpoint into \"" + options_.directory.string() + "\": " + why;
}

std::expected<std::unique_ptr<CheckpointWriter>, std::string> CheckpointWriter::open(
    Options options, Machine& machine) {
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(std::move(options), machine));
  const auto cannot = [&](const std::string& why) { return std::unexpected(writer->named(why)); };
  const fs::path& directory = writer->options_.directory;
  std::error_code error;
  fs::create_directories(directory, error);
  auto opened = open_file(directory, O_RDONLY | O_DIRECTORY);
  if (!opened) return cannot(opened.error());
  writer->directory_ = std::move(*opened);
  auto list = list_checkpoints(directory);
  if (!list) return cannot(list.error());
  clear_up_checkpoints(directory, *list);
  for (const CheckpointFile& one : list->checkpoints) {
    Kept kept{*promised_hash(one.path, manifest_suffix), {}};
    for (const Manifest::Pack& pack : one.manifest.packs)
      kept.packs.push_back(pack.name);
    writer->kept_.push_back(std::move(kept));
  }
  const std::size_t bytes = PageTable::bytes_for(machine.memory().page_count());
  writer->tables_[0] = Mapping::create(bytes, MAP_SHARED);
  writer->tables_[1] = Mapping::create(bytes, MAP_SHARED);
  writer->report_memory_ = Mapping::create(sizeof(ChildReport), MAP_SHARED);
  if (!writer->tables_[0] || !writer->tables_[1] || !writer->report_memory_) {
    return cannot("the host has too little memory");
  }
  return writer;
}

CheckpointWriter::~CheckpointWriter() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void CheckpointWriter::start_from(const Manifest& manifest, const fs::path& file) {
  std::error_code error;
  if (!fs::equivalent(file.parent_path(), options_.directory, error)) {
    // Its packs are not here: all pages that are not zero are new to this directory.
    std::vector<std::uint8_t> all(machine_.memory().page_count());
    for (const Manifest::Run& run : manifest.runs)
      std::fill_n(all.begin() + static_cast<std::ptrdiff_t>(run.gfn), run.count, std::uint8_t{1});
    machine_.memory().return_checkpoint_set(all);
    return;
  }
  PageTable& table = *PageTable::in(tables_[current_]);
  table.pack_count = manifest.packs.size();
  for (std::size_t i = 0; i < manifest.packs.size(); ++i) {
    const Manifest::Pack& pack = manifest.packs[i];
    table.packs[i] = {pack.name, pack.bytes, pack.pages, 0};
  }
  for (const Manifest::Run& run : manifest.runs) {
    for (std::uint32_t i = 0; i < run.count; ++i)
      table.places()[run.gfn + i] = PageTable::place_of(run.pack, run.index + i);
  }
}

void CheckpointWriter::start_over() {
  machine_.memory().return_checkpoint_set(
      std::vector<std::uint8_t>(machine_.memory().page_count(), std::uint8_t{1}));
}

std::expected<void, std::string> CheckpointWriter::begin(const StateDigest& digest,
                                                         const Point& point) {
  if (busy()) return std::unexpected(named("the one before it is still being written"));
  if (!point.config.disks.empty()) {
    return std::unexpected(named("the machine has disks, which no checkpoint holds yet"));
  }
  const std::uint64_t start_ns = now_ns();
  release_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC));
  if (!release_) return std::unexpected(named(error_text(errno)));
  Manifest manifest;
  manifest.config = point.config;
  manifest.chunk = point.chunk;
  manifest.position = machine_.position();
  manifest.guest_ns = machine_.guest_ns();
  manifest.console_bytes = machine_.console_bytes();
  manifest.state = machine_.save_state();
  manifest.inputs = point.inputs;
  manifest.memory_sum = digest.memory_sum();
  const ManifestHead head = encode_manifest_head(manifest);
  set_ = machine_.memory().take_checkpoint_set();
  machine_.after_dirty_pages_taken();
  std::memset(report_memory_.bytes().data(), 0, sizeof(ChildReport));
  ChildJob job;
  job.directory = directory_.get();
  job.release = release_.get();
  job.parent = ::getpid();
  job.memory = &machine_.memory();
  job.digest = &digest;
  job.candidates = set_;
  job.entries = head.entries;
  job.entry_count = head.count;
  job.previous = PageTable::in(tables_[current_]);
  job.next = PageTable::in(tables_[1 - current_]);
  job.report = report_in(report_memory_);
  {
    const BlockedSignals blocked;
    child_ = ::fork();
    if (child_ == 0) run_checkpoint_child(job);
  }
  if (child_ < 0) {
    const int error = errno;
    machine_.memory().return_checkpoint_set(set_);
    return std::unexpected(named("no process can be made: " + error_text(error)));
  }
  pending_ = {};
  pending_.chunk = manifest.chunk;
  pending_.position = manifest.position;
  pending_.pause_ns = now_ns() - start_ns;
  return {};
}

void CheckpointWriter::release() {
  if (!release_) return;
  const std::uint64_t leave = 1;
  NM_CHECK(::write(release_.get(), &leave, sizeof leave) == sizeof leave);
  release_ = FileDescriptor();
}

std::optional<CheckpointWriter::Result> CheckpointWriter::poll() {
  if (!busy()) return std::nullopt;
  int status = 0;
  const pid_t got = ::waitpid(child_, &status, WNOHANG);
  if (got == 0 || (got < 0 && errno == EINTR)) return std::nullopt;
  return end(status);
}

std::optional<CheckpointWriter::Result> CheckpointWriter::wait() {
  if (!busy()) return std::nullopt;
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  return end(status);
}

CheckpointWriter::Result CheckpointWriter::end(int status) {
  child_ = 0;
  release_ = FileDescriptor();
  const ChildReport& report = *report_in(report_memory_);
  const bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                    report.stage == ChildReport::Stage::published;
  if (!done) {
    machine_.memory().return_checkpoint_set(set_);
    const std::string why(report.error, ::strnlen(report.error, sizeof report.error));
    return std::unexpected(named(why.empty() ? "its writer was killed" : why));
  }
  current_ = 1 - current_;
  pending_.name = report.manifest;
  pending_.bytes = report.pack_bytes + report.manifest_bytes;
  pending_.pages = report.pages;
  pending_.work_ns = report.work_ns;
  collect();
  return pending_;
}

// Removes what is too old, manifests first, so that a manifest that is there has its packs.
void CheckpointWriter::collect() {
  const PageTable& table = *PageTable::in(tables_[current_]);
  Kept newest{pending_.name, {}};
  for (std::uint64_t pack = 0; pack < table.pack_count; ++pack)
    newest.packs.push_back(table.packs[pack].name);
  std::erase_if(kept_, [&](const Kept& one) { return one.name == newest.name; });
  kept_.push_back(std::move(newest));
  if (options_.keep == 0 || kept_.size() <= options_.keep) return;
  const auto first_kept = kept_.end() - static_cast<std::ptrdiff_t>(options_.keep);
  std::set<Sha256> unneeded;
  std::error_code ignored;
  for (auto one = kept_.begin(); one != first_kept; ++one) {
    fs::remove(manifest_path(options_.directory, one->name), ignored);
    unneeded.insert(one->packs.begin(), one->packs.end());
  }
  kept_.erase(kept_.begin(), first_kept);
  for (const Kept& one : kept_) {
    for (const Sha256& pack : one.packs)
      unneeded.erase(pack);
  }
  for (const Sha256& pack : unneeded)
    fs::remove(pack_path(options_.directory, pack), ignored);
}

}  // namespace node_mesh

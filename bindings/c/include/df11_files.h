// Checkpoints in files, for hosts with a file system: open, list tensors, decode one. The rules at
// the top of df11.h apply here as well.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_FILES_H
#define DF11_FILES_H

// Made by bindings/c/headers.sh from the sources of the library; change those.

#include <stddef.h>
#include <stdint.h>
#include "df11.h"

// An open checkpoint. `df11_checkpoint_open` makes it, `df11_checkpoint_close` ends it. Its files
// stay memory-mapped meanwhile, and must not be changed. Several threads may use it at the same
// time.
typedef struct df11_checkpoint df11_checkpoint;

// A tensor of a checkpoint, as it was before compression. Its pointers are valid while the
// checkpoint is open.
typedef struct df11_tensor {
  // The tensor's name, cut at its first zero byte if it contains one.
  const char *name;
  // The element type, as safetensors names it: "BF16", "F32", ….
  const char *dtype;
  // The number of dimensions.
  size_t rank;
  // The dimensions; the last one is contiguous. Do not dereference this pointer when `rank` is
  // 0.
  const size_t *shape;
  // The size of the decoded elements in bytes; they are little-endian.
  uint64_t bytes;
} df11_tensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a checkpoint: one safetensors file, or a directory with `config.json` and weights. It may
// be compressed (as units of DF11, by this library or the published program, or as frames) or not.
// Maps its files into memory, and decodes nothing yet. `path` is UTF-8 on Windows, and in the
// bytes of the file system elsewhere.
//
// The caller must close `*checkpoint`. It is NULL after a failure.
//
// `path` must be a text that ends with a zero byte, or NULL. `checkpoint` must be valid for writes
// of a pointer, or NULL. `error` must be valid for writes of a `df11_error`, or NULL. None may
// overlap with another.
df11_status df11_checkpoint_open(const char *path, struct df11_checkpoint **checkpoint, df11_error *error);

// Closes a checkpoint. All pointers that it gave out, such as names and parts of units, become
// invalid. Closing NULL does nothing.
//
// `checkpoint` must be NULL, or come from `df11_checkpoint_open` and not be closed yet. No one may
// use it, or any pointer that it gave out, after this call.
void df11_checkpoint_close(struct df11_checkpoint *checkpoint);

// Returns the number of tensors; 0 for NULL.
//
// `checkpoint` must be NULL or open.
size_t df11_checkpoint_tensor_count(const struct df11_checkpoint *checkpoint);

// Describes the tensor of this number. Numbers begin at 0 and follow the order of names.
//
// `checkpoint` must be NULL or open. `tensor` must be valid for writes of a `df11_tensor`, or
// NULL, and `error` for writes of a `df11_error`, or NULL. The two must not overlap.
df11_status df11_checkpoint_tensor(const struct df11_checkpoint *checkpoint,
                                   size_t index,
                                   struct df11_tensor *tensor,
                                   df11_error *error);

// Describes the tensor of this name.
//
// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
// `tensor` must be valid for writes of a `df11_tensor`, or NULL, and `error` for writes of a
// `df11_error`, or NULL. What is written must not overlap with anything else.
df11_status df11_checkpoint_find(const struct df11_checkpoint *checkpoint,
                                 const char *name,
                                 struct df11_tensor *tensor,
                                 df11_error *error);

// Decodes a tensor to `out`. `out_len` must be its `bytes`. The call runs on the calling thread,
// and takes up to 300 KiB from the allocator while it runs.
//
// After a failure, the content of `out` is unspecified.
//
// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
// `out` must be valid for writes of `out_len` bytes, or NULL, and `error` for writes of a
// `df11_error`, or NULL. What is written must not overlap with anything else.
df11_status df11_checkpoint_decode(const struct df11_checkpoint *checkpoint,
                                   const char *name,
                                   uint8_t *out,
                                   size_t out_len,
                                   df11_error *error);

// Decodes the elements from `start` to before `end` of a tensor, in the order in which they are
// stored, such as rows of a matrix. `out_len` must be the size of these elements.
//
// `checkpoint` must be NULL or open. `name` must be a text that ends with a zero byte, or NULL.
// `out` must be valid for writes of `out_len` bytes, or NULL, and `error` for writes of a
// `df11_error`, or NULL. What is written must not overlap with anything else.
df11_status df11_checkpoint_decode_range(const struct df11_checkpoint *checkpoint,
                                         const char *name,
                                         uint64_t start,
                                         uint64_t end,
                                         uint8_t *out,
                                         size_t out_len,
                                         df11_error *error);

// Returns the number of units. It is 0 for a checkpoint of frames, for one that is not compressed,
// and for NULL.
//
// `checkpoint` must be NULL or open.
size_t df11_checkpoint_unit_count(const struct df11_checkpoint *checkpoint);

// Gives the parts of a unit, where they lie in the mapped file, for `df11_unit_open`. If `path` is
// not NULL, it also gives the module path. All pointers are valid while the checkpoint is open.
//
// `checkpoint` must be NULL or open. `tensors` must be valid for writes of a `df11_tensors`, or
// NULL, `path` for writes of a pointer, or NULL, and `error` for writes of a `df11_error`, or
// NULL. None may overlap with another.
df11_status df11_checkpoint_unit(const struct df11_checkpoint *checkpoint,
                                 size_t index,
                                 df11_tensors *tensors,
                                 const char **path,
                                 df11_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DF11_FILES_H */

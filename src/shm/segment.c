/* SPDX-License-Identifier: MIT */
/*
 * Shared memory without names. Called from any thread of owner and worker; nothing is shared between calls.
 *
 * What seals promise to who maps a descriptor of a peer's: with SHRINK no access to the mapping raises SIGBUS, with
 * WRITE nobody can change a byte any more, with FUTURE_WRITE nobody but who has it mapped already. Seals can only be
 * added, and SEAL ends that.
 */
#include "shm/segment.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "shm/foreign.h"
#include "shm/huge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#define SEALED_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)
#define SEALED_CONTENT (SEALED_SIZE | F_SEAL_WRITE)

/* Allocated in pieces: see allocate. */
#define PIECE ((size_t)1 << 24)
#define PIECE_MIN ((size_t)1 << 12)

/* The kernel would raise SIGXFSZ: so look first. */
int pp__segment_check_limit(size_t size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur)
        return 0;
    return pp__fail(-EFBIG,
                    "%zu bytes of shared memory exceed RLIMIT_FSIZE, %llu bytes (raise it with ulimit -f or setrlimit)",
                    size, (unsigned long long)limit.rlim_cur);
}

/* What the machine does not have is refused here; the kernel would begin, and call the out-of-memory killer. */
static int check_machine(size_t size)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0)
        return 0;
    uint64_t all = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
    if (size <= all)
        return 0;
    return pp__fail(-ENOMEM, "%zu bytes of shared memory are more than memory and swap together, %llu bytes", size,
                    (unsigned long long)all);
}

static int make_memfd(const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = PP_SYS(memfd_create)(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = PP_SYS(memfd_create)(name, flags);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return pp__fail_errno(
            errno, "memfd_create, which shared memory needs (Linux 3.17 or newer, in a sandbox that allows it)");
    return pp__fd_adopt(fd, "shared memory (memfd_create)");
}

/*
 * A signal interrupts the kernel's allocation, which then gives back all that the call had got: with a profiling timer
 * a large one in a single call would never end. So it goes by pieces, which shrink at each interruption.
 */
static int allocate(int fd, size_t offset, size_t size)
{
    size_t piece = PIECE;
    for (size_t done = 0; done < size;) {
        size_t next = size - done < piece ? size - done : piece;
        int error = PP_SYS(posix_fallocate)(fd, (off_t)(offset + done), (off_t)next);
        if (error == EINTR)
            piece = piece > PIECE_MIN ? piece / 2 : PIECE_MIN;
        else if (error != 0)
            return error;
        else
            done += next;
    }
    return 0;
}

static int fail_allocation(int error, size_t size)
{
    if (error == ENOSPC || error == ENOMEM)
        return pp__fail(-ENOMEM, "no memory for %zu bytes of shared memory", size);
    return pp__fail_errno(error, "allocating %zu bytes of shared memory", size);
}

/*
 * Between the two calls another thread's fork can still inherit the mapping: there is no way to map and mark in one
 * step.
 */
static int map(int fd, size_t size, int protection, int flags, void **memory)
{
    void *hint = size < PP__HUGE_PAGE ? NULL : pp__huge_reserve(0, size, PROT_NONE);
    if (hint)
        munmap(hint, size); /* should another thread get it now, any place will do */
    void *place = PP_SYS(mmap)(hint, size, protection, flags, fd, 0);
    if (place == MAP_FAILED)
        return pp__fail_errno(errno, "mapping %zu bytes of shared memory", size);
    PP_SYS(madvise)(place, size, MADV_DONTFORK);
    *memory = place;
    return 0;
}

int pp__segment_file(const char *name)
{
    int fd = make_memfd(name);
    if (fd < 0 || PP_SYS(fcntl)(fd, F_SETFL, O_RDWR | O_APPEND) == 0)
        return fd;
    int error = pp__fail_errno(errno, "a file in memory");
    pp__fd_close(fd);
    return error;
}

static int seal(int fd, int seals)
{
    if (PP_SYS(fcntl)(fd, F_ADD_SEALS, seals) == 0)
        return 0;
    return pp__fail_errno(errno, "sealing shared memory");
}

static int map_and_allocate(int fd, size_t size, void **memory)
{
    void *place;
    int error = map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED, &place);
    if (error)
        return error;
    pp__huge_back(fd, place, size);
    error = allocate(fd, 0, size);
    if (error) {
        munmap(place, size);
        return fail_allocation(error, size);
    }
    *memory = place;
    return 0;
}

/* The descriptor, or a negative errno with nothing left behind. */
static int create(const char *name, size_t size, void **memory)
{
    int error = pp__segment_check_limit(size);
    if (error == 0)
        error = check_machine(size);
    if (error)
        return error;
    int fd = make_memfd(name);
    if (fd < 0)
        return fd;
    error = map_and_allocate(fd, size, memory);
    if (error == 0)
        return fd;
    pp__fd_close(fd);
    return error;
}

/* Takes `fd` and what it is mapped at over. */
static int seal_segment(int fd, void *place, size_t size, int more, void **memory)
{
    int error = seal(fd, SEALED_SIZE | F_SEAL_SEAL | more);
    if (error) {
        munmap(place, size);
        pp__fd_close(fd);
        return error;
    }
    *memory = place;
    return fd;
}

int pp__segment_create(const char *name, size_t size, bool private_writer, void **memory)
{
    void *place = NULL;
    int fd = create(name, size, &place);
    return fd < 0 ? fd : seal_segment(fd, place, size, private_writer ? F_SEAL_FUTURE_WRITE : 0, memory);
}

int pp__segment_create_empty(const char *name, size_t size, void **memory)
{
    void *place = NULL;
    int error = pp__segment_check_limit(size), fd = error ? error : make_memfd(name);
    if (fd < 0)
        return fd;
    if (PP_SYS(ftruncate)(fd, (off_t)size) != 0)
        error = pp__fail_errno(errno, "%zu bytes of shared memory", size);
    else
        error = map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED, &place);
    if (error) {
        pp__fd_close(fd);
        return error;
    }
    return seal_segment(fd, place, size, 0, memory);
}

int pp__segment_allocate(int fd, size_t offset, size_t size)
{
    int error = allocate(fd, offset, size);
    return error ? fail_allocation(error, size) : 0;
}

int pp__segment_map(int fd, size_t size, bool writable, void **memory)
{
    uint64_t found;
    int error = pp__foreign_check(fd, SEALED_SIZE, &found);
    if (error)
        return error;
    if (found != size)
        return pp__fail(-EPROTO, "a shared segment that is not %zu bytes", size);
    return map(fd, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, memory);
}

void pp__segment_unmap(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}

/* Addresses, and nothing else. */
#define VACANT (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

bool pp__segment_move(void *memory, size_t size, void *place)
{
    if (PP_SYS(mremap)(memory, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) != MAP_FAILED)
        return true;
    /* The kernel may have unmapped what was there before it failed. */
    PP_SYS(mmap)(place, size, PROT_READ, VACANT | MAP_FIXED_NOREPLACE, -1, 0);
    return false;
}

/* In one step, so that the addresses are there all the time. Should there be no memory for that, it stays mapped. */
void pp__segment_vacate(void *memory, size_t size)
{
    if (memory)
        PP_SYS(mmap)(memory, size, PROT_READ, VACANT | MAP_FIXED, -1, 0);
}

int pp__payload_create(size_t size, void **memory)
{
    if (size >= PTRDIFF_MAX)
        return pp__fail(-ENOMEM, "a payload of %zu bytes is larger than an address space", size);
    return create("procpool-payload", size + 1, memory);
}

/* The writer may have written one byte too many: the NUL is set last. */
int pp__payload_seal(int fd, void *memory, size_t size)
{
    ((char *)memory)[size] = '\0';
    munmap(memory, size + 1);
    return seal(fd, SEALED_CONTENT | F_SEAL_SEAL);
}

int pp__payload_check(int fd, size_t size)
{
    uint64_t found;
    int error = pp__foreign_check(fd, SEALED_CONTENT, &found);
    if (error == 0 && found <= size)
        error = pp__fail(-EPROTO, "a payload with less than %zu bytes and a NUL", size);
    return error;
}

/*
 * Private, since kernels before 6.7 refuse to share a mapping of what is sealed against writing even for reading; the
 * pages are the same ones, as nothing can change them.
 */
int pp__payload_map(int fd, size_t size, const void **memory)
{
    void *place = NULL;
    int error = pp__payload_check(fd, size);
    if (error == 0)
        error = map(fd, size + 1, PROT_READ, MAP_PRIVATE, &place);
    if (error)
        return error;
    if (((const char *)place)[size] != '\0') {
        munmap(place, size + 1);
        return pp__fail(-EPROTO, "a payload without a NUL behind it");
    }
    *memory = place;
    return 0;
}

int pp__payload_read(int fd, size_t size, void *bytes)
{
    int error = pp__payload_check(fd, size);
    for (size_t done = 0; error == 0 && done <= size;) {
        ssize_t got = PP_SYS(pread)(fd, (char *)bytes + done, size + 1 - done, (off_t)done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || errno != EINTR)
            error = pp__fail(-EPROTO, "a payload that can't be read");
    }
    if (error == 0 && ((const char *)bytes)[size] != '\0')
        error = pp__fail(-EPROTO, "a payload without a NUL behind it");
    return error;
}

void pp__payload_unmap(const void *memory, size_t size)
{
    if (memory)
        munmap((void *)(uintptr_t)memory, size + 1);
}

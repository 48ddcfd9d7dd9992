/* SPDX-License-Identifier: MIT */
/* The calling thread's last failure in words. */
#ifndef PP_BASE_ERROR_H
#define PP_BASE_ERROR_H

/* Stores the text (cut at 511 bytes) and returns `code`, so that a function can end with it. */
int pp__fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a failed call of the system's: "WHAT: text of errno", returns -error. */
int pp__fail_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* strerror that is safe in threads; the text belongs to the calling thread (or is constant). */
const char *pp__strerror(int error);

#endif

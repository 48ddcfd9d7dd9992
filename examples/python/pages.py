# SPDX-License-Identifier: MIT
# Pages, loaded by three workers, each given out with its URL. One that can't be had costs itself alone.
import concurrent.futures
import sys
import urllib.request


def load_url(url):
    try:
        with urllib.request.urlopen(url) as page:
            return page.read()
    except OSError as error:
        raise RuntimeError(str(error))  # the error itself may hold what can't be pickled


if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(max_workers=3) as executor:
        futures = [executor.submit(load_url, url) for url in sys.argv[1:]]
        for url, future in zip(sys.argv[1:], futures):
            try:
                data = future.result()
            except Exception as error:
                print("%r page is not there: %s" % (url, error))
            else:
                print("%r page is %d bytes" % (url, len(data)))

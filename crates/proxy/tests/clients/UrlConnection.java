// Java's HttpURLConnection, whose connections are kept by the runtime.

import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpRetryException;
import java.net.HttpURLConnection;
import java.net.URL;
import java.util.Arrays;

class UrlConnection {
    static int ask(String method, String url, String headers, String kind) throws Exception {
        HttpURLConnection call = (HttpURLConnection) new URL(url).openConnection();
        call.setConnectTimeout(20_000);
        call.setReadTimeout(20_000);
        call.setRequestMethod(method);
        call.setDoOutput(true);
        for (String line : headers.split("\\|")) {
            if (!line.equals("-")) call.addRequestProperty(line.split(": ")[0], line.split(": ")[1]);
        }
        byte[] body = new byte[kind.equals("chunked") ? 100_000 : Integer.parseInt(kind)];
        Arrays.fill(body, (byte) ' ');
        body[0] = '{';
        body[1] = '}';
        if (kind.equals("chunked")) call.setChunkedStreamingMode(10_000);
        try {
            call.getOutputStream().write(body);
            call.getOutputStream().close();
            int status = call.getResponseCode();
            InputStream answer = status < 400 ? call.getInputStream() : call.getErrorStream();
            if (answer != null) {
                answer.readAllBytes();
                answer.close();
            }
            return status;
        } catch (HttpRetryException told) {
            // It wants to ask again after a 401, which a body that was streamed does not allow.
            return told.responseCode();
        }
    }

    public static void main(String[] none) throws Exception {
        // A call that was lost must be seen.
        System.setProperty("sun.net.http.retryPost", "false");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] at = line.split("\t");
            try {
                int early = ask(at[1], at[2], at[3], at[4]);
                System.out.println(at[0] + "\t" + early + "\t" + ask("POST", at[5], at[6], "2"));
            } catch (Exception error) {
                System.out.println(at[0] + "\t" + error);
            }
        }
    }
}
